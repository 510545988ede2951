"""`docker`: a folder to build a slim image from, which runs as nobody and needs no network."""

from __future__ import annotations

from pathlib import Path

from optkit.core.artifact import Artifact
from optkit.core.version import __version__
from optkit.runtimes.settings import chosen_runtime
from optkit.serving.package import copy_artifact, is_signed
from optkit.serving.package.bom import NAME, OPTKIT, write_bom
from optkit.serving.package.requirements import extras_of, own_files, pinned
from optkit.serving.package.wheel import write_wheel

_DOCKERFILE = """\
# {name} {version}: {task}, {precision}, on {runtime}. Build: docker build -t {name}:{version} .
FROM python:{python}-slim

# Nothing is fetched at run time.
ENV PYTHONUNBUFFERED=1 \\
    PYTHONDONTWRITEBYTECODE=1 \\
    HF_HUB_OFFLINE=1

RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin serve
WORKDIR /app

COPY bom.cdx.json requirements.txt ./
COPY wheels/ wheels/
RUN pip install --no-cache-dir -r requirements.txt \\
    && pip install --no-cache-dir --no-deps wheels/*.whl \\
    && rm -r wheels

# Owned by root: the serving user reads the model and cannot change it.
COPY model/ model/

USER 10001
EXPOSE 8000
HEALTHCHECK --start-period=20s CMD ["python", "-c", \\
    "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
ENTRYPOINT ["optkit", "serve", "{name}=/app/model", "--host", "0.0.0.0", "--port", "8000"]
"""


def write(artifact: Artifact, folder: Path, name: str, version: str) -> str:
    """Dockerfile, pinned requirements, a bill of materials, a wheel of optkit as it runs here, the model."""
    runtime = chosen_runtime(artifact)
    (folder / "wheels").mkdir()
    files, metadata = own_files()
    points = "[console_scripts]\noptkit = optkit.__main__:main\n"
    write_wheel(folder / "wheels", "optkit", __version__, files, metadata, points)
    copy_artifact(artifact, folder / "model")
    extras = {"serve", *extras_of(artifact), *(["sign"] if is_signed(artifact) else [])}
    wanted = [line for line in pinned(extras) if not line.startswith("nncf")]  # makes INT8, serves nothing
    bill = write_bom(artifact, name, version, "docker", [OPTKIT, *wanted])
    (folder / NAME).write_bytes(bill)
    (folder / "requirements.txt").write_text("\n".join(wanted) + "\n", encoding="utf-8")
    (folder / ".dockerignore").write_text("" if is_signed(artifact) else "**/report.*\n", encoding="utf-8")
    text = _DOCKERFILE.format(
        name=name,
        version=version,
        task=artifact.task,
        precision=artifact.precision,
        runtime=runtime,
        python="3.12",
    )
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    tag = f"{name}:{version}"
    return f"docker build -t {tag} OUT && docker run --read-only --tmpfs /tmp -p 8000:8000 {tag}"


def wrote(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    known = {".dockerignore", "Dockerfile", NAME, "model", "requirements.txt", "wheels"}
    return "Dockerfile" in names and names <= known and (folder / "model" / "optkit.json").is_file()
