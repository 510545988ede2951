"""`Artifact`: an immutable folder on disk with a manifest.

A folder is written under a temporary name beside its final one and renamed into place when it is
complete, so that a folder with the final name is always whole. `optkit.json` holds the format, the
lineage of passes with their parameters, the sha256 of every file, and library versions.

A plain Hugging Face checkpoint (config.json beside safetensors) is an artifact too: of format
`hf`, with an empty lineage.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from optkit.core.files import belongs, sha256, write_json
from optkit.core.reading import check_regular, read_json
from optkit.core.sentence_modules import SENTENCE_FILES, modules
from optkit.core.version import __version__
from optkit.errors import CheckpointError

MANIFEST = "optkit.json"
SCHEMA = "optkit.artifact/1"
#: Files that travel with the model from pass to pass, when they exist.
SIDE_FILES = (
    "config.json",
    "config_sentence_transformers.json",
    *("encoding.json", "chat_template.jinja"),
    "generation_config.json",
    "modules.json",
    "preprocessor_config.json",
    "processor_config.json",
    *SENTENCE_FILES,
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
#: Settings of a sentence-transformers folder's modules (1_Pooling/config.json), which travel too.
MODULE_FILES = "[0-9]*_*/config.json"
#: Weights of such modules (2_Dense/model.safetensors); a graph has them inside.
MODULE_WEIGHTS = "[0-9]*_*/model.safetensors"
#: Written beside the model but not part of it, so not in the manifest's checksums.
REPORTS = (
    *("report.json", "report.md", "report.html", "report.xml", "report.csv"),
    *("study.json", "study.html"),
    "training.html",
)
#: The same holds for what TensorBoard reads.
EVENTS = "events.out.tfevents"
#: The signature over the folder: see `optkit.models.signing`.
SIGNATURE = "model.sig"
_PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "openvino", "nncf", "tokenizers", "numpy")


@dataclass(frozen=True)
class Artifact:
    """A model folder and what is known about it.

    `manifest` keys: `schema`, `format` (`hf`, `onnx`, ...), `precision` (`fp32`, `int8`, ...),
    `task` (None until known), `runtime` (`{"name", "options"}` or None), `license` (the
    checkpoint's, None where it states none), `lineage` (a list of
    `{"pass", "parameters", "notes", "seconds"}`), `files` (name → sha256), `versions`.
    """

    path: Path
    manifest: dict[str, Any] = field(compare=False)

    @classmethod
    def open(cls, path: str | Path) -> Artifact:
        """Read an optkit folder or a Hugging Face folder.

        The manifest, the names of files and the settings files are checked as a whole; `verify` compares the
        contents. Raises CheckpointError where the folder is missing, empty, unsafe or damaged.
        """
        from optkit.core.schema.folder import check_folder

        path = Path(path)
        if not os.path.exists(path):
            raise CheckpointError(
                f"Expected a model folder, received {str(path)!r}, which does not exist.",
                hint="Check the path; a hub model is written as owner/name.",
            )
        if not path.is_dir():
            raise CheckpointError(f"Expected a model folder, received the file {str(path)!r}.")
        if not any(path.iterdir()):
            raise CheckpointError(f"Expected a model folder, received {str(path)!r}, which is empty.")
        if os.path.lexists(path / MANIFEST):
            manifest = _read_manifest(path / MANIFEST)
            for name in manifest["files"]:
                if not os.path.lexists(path / name):
                    raise CheckpointError(f"{name!r} is in the manifest of {str(path)!r} but not in it.")
            check_folder(path, manifest["files"], {MANIFEST, *REPORTS})
            return cls(path, manifest)
        check_folder(path, None, ())
        modules(path)
        _refuse_what_is_no_checkpoint(path)
        return cls(path, _implicit_manifest(path))

    @property
    def format(self) -> str:
        name: str = self.manifest["format"]
        return name

    @property
    def precision(self) -> str:
        name: str = self.manifest.get("precision", "fp32")
        return name

    @property
    def task(self) -> str | None:
        return self.manifest.get("task")

    @property
    def lineage(self) -> list[dict[str, Any]]:
        lineage: list[dict[str, Any]] = self.manifest["lineage"]
        return lineage

    @property
    def config(self) -> dict[str, Any]:
        """The model's own configuration (config.json); {} where it has none."""
        from optkit.core.schema.model_files import checked

        file = self.path / "config.json"
        config = checked(file, file.name, CheckpointError) if file.exists() else {}
        if config.get("id2label"):  # a label may stand there as a number
            config["id2label"] = {key: str(label) for key, label in config["id2label"].items()}
        return config

    @property
    def model_files(self) -> list[Path]:
        """The weights and graphs, without tokenizer, configuration and reports."""
        endings = {"hf": {".safetensors"}, "onnx": {".onnx", ".data"}, "openvino": {".xml", ".bin"}}
        wanted = endings.get(self.format, {".engine", ".plan"})
        return sorted(p for p in self.path.iterdir() if p.suffix in wanted and p.name not in REPORTS)

    @property
    def module_weights(self) -> list[Path]:
        """The weights of a sentence-transformers checkpoint's further modules."""
        return sorted(self.path.glob(MODULE_WEIGHTS)) if self.format == "hf" else []

    @property
    def size_bytes(self) -> int:
        return sum(p.stat().st_size for p in (*self.model_files, *self.module_weights))

    def verify(self) -> None:
        """Compare every file with the manifest; CheckpointError names the first that differs."""
        for name, expected in self.manifest["files"].items():
            file = self.path / name
            if not belongs(file, self.path):
                raise CheckpointError(f"{name!r} in {str(self.path)!r} points outside of its folder.")
            if not file.exists():
                raise CheckpointError(f"{name!r} is in the manifest of {str(self.path)!r} but not in it.")
            check_regular(file.stat(), file, CheckpointError)
            if sha256(file) != expected:
                hint = "Copy the folder again, or run the command that made it."
                if self.format == "hf":
                    hint += f" Where you changed it yourself, delete {MANIFEST}: a checkpoint needs none."
                raise CheckpointError(
                    f"{name!r} in {str(self.path)!r} is not the file that was written (sha256 differs).",
                    hint=hint,
                )

    def fingerprint(self) -> str:
        """One sha256 over the names and contents of the model's own files."""
        files = self.manifest["files"] or {
            p.relative_to(self.path).as_posix(): sha256(p)
            for p in sorted([*self.path.iterdir(), *self.path.glob(MODULE_FILES), *self.module_weights])
            if p.is_file() and p.name not in (*REPORTS, MANIFEST, SIGNATURE)
        }
        return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def seal(
    folder: Path,
    parent: Artifact,
    step: dict[str, Any],
    **changes: object,
) -> Artifact:
    """Write the manifest of a new artifact made from `parent` by `step`, and return it.

    `changes` replaces manifest keys: `format`, `precision`, `runtime`, `task`, ...
    """
    manifest: dict[str, Any] = {
        **{k: v for k, v in parent.manifest.items() if k not in ("files", "versions")},
        **changes,
        "schema": SCHEMA,
        "lineage": [*parent.lineage, step],
        "files": listing(folder),
        "versions": library_versions(),
    }
    write_json(folder / MANIFEST, manifest)
    return Artifact(folder, manifest)


def listing(folder: Path) -> dict[str, str]:
    """Name → sha256 of every file of a model in `folder`, reports left out."""
    return {
        p.relative_to(folder).as_posix(): sha256(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != MANIFEST and p.name not in REPORTS and not p.name.startswith(EVENTS)
    }


def state(path: str | Path) -> tuple[tuple[str, ...], ...]:
    """Which files lie in a folder now, reports and hidden files aside: equal twice where none of them was
    replaced or written between; empty where there is no folder.

    A write that leaves name, size and time of change alike (within one tick of the file system's clock, some
    milliseconds) is not seen.
    """
    from optkit.core.schema.folder import names_in

    folder, states = Path(path), []
    try:
        for name in names_in(folder, deep=True):
            last = name.rpartition("/")[2]
            if last in REPORTS or last.startswith(EVENTS):
                continue
            try:
                x = (folder / name).stat()
            except OSError:  # a link that leads nowhere, or to itself: the link's own
                x = (folder / name).lstat()
            states.append((name, *map(str, (x.st_dev, x.st_ino, x.st_size, x.st_mtime_ns, x.st_ctime_ns))))
    except OSError:  # between the old folder and the new one
        return ()
    except CheckpointError as reason:  # too many files
        return ((str(reason),),)
    return tuple(sorted(states))


def changed(path: str | Path) -> CheckpointError:
    """What is raised where `state` was another one before a folder was read than after it."""
    return CheckpointError(
        f"{str(path)!r} was changed while it was read.",
        hint="Replace a folder whole, by renaming; then read it again.",
    )


def relocated(artifact: Artifact, path: Path) -> Artifact:
    """The same artifact after its folder was renamed to `path`."""
    return replace(artifact, path=path)


def copy_side_files(source: Path, target: Path, but: Collection[str] = ()) -> None:
    """Copy tokenizer and configuration (not weights) from one model folder to another.

    `but` names what stays as it is in `target`.
    """
    for name in SIDE_FILES:
        if name not in but and (source / name).exists():
            shutil.copyfile(source / name, target / name)
    if "vocab.json" not in but and not (source / "tokenizer.json").exists():  # which else holds it
        for file in source.glob("vocab.json"):  # of speech
            shutil.copyfile(file, target / file.name)
    copy_files(source, (str(file.relative_to(source)) for file in source.glob(MODULE_FILES)), target)


def copy_files(source: Path, names: Iterable[str], target: Path) -> None:
    """Copy the files `names`, such as model.onnx or 1_Pooling/config.json, from one folder to another."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def copy_model(source: Artifact, target: Path) -> None:
    """Copy weights or graphs, tokenizer and configuration of `source` into the folder `target`."""
    copy_side_files(source.path, target)
    for file in (*source.model_files, *source.path.glob("*.index.json")):  # the index of sharded weights
        shutil.copyfile(file, target / file.name)
    copy_files(source.path, (f.relative_to(source.path).as_posix() for f in source.module_weights), target)


def library_versions() -> dict[str, str]:
    """Versions of optkit and of the libraries that shape a result, where installed."""
    versions = {"optkit": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _read_manifest(file: Path) -> dict[str, Any]:
    from optkit.core.schema.base import check
    from optkit.core.schema.manifest import Manifest

    value = read_json(file, CheckpointError)
    if value.get("schema") != SCHEMA:
        raise CheckpointError(
            f"Expected schema {SCHEMA!r} in {str(file)!r}, received {str(value.get('schema'))[:80]!r}.",
            hint="The folder was made by another version of optkit; make it again with this one.",
        )
    hint = "Copy the folder again as it was written; nobody edits a manifest by hand."
    return check(Manifest, value, file, CheckpointError, hint).model_dump(by_alias=True)


def _refuse_what_is_no_checkpoint(path: Path) -> None:
    names = [p.name for p in path.iterdir()]
    if not any(name.endswith(".safetensors") for name in names):
        pickles = [n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]
        if pickles:
            raise CheckpointError(
                f"Expected safetensors in {str(path)!r}, received pickled weights ({pickles[0]}). "
                "A pickle can run code when it is read, so optkit does not open it.",
                hint="Where you trust it: AutoModel.from_pretrained(folder).save_pretrained(new_folder) "
                "in transformers writes safetensors.",
            )
        raise CheckpointError(
            f"Expected a file *.safetensors in {str(path)!r}, received: {', '.join(sorted(names)[:8])}."
        )
    if "adapter_config.json" in names:
        raise CheckpointError(
            f"Expected a whole checkpoint, received a LoRA adapter in {str(path)!r} (adapter_config.json).",
            hint="optkit compress merges it with its base; this reads what comes out.",
        )
    if "config.json" not in names:
        raise CheckpointError(f"Expected config.json beside the weights in {str(path)!r}; it is missing.")


def _implicit_manifest(path: Path) -> dict[str, Any]:
    from optkit.core.schema.model_card import stated_license

    return {
        "schema": SCHEMA,
        "format": "hf",
        "precision": "fp32",
        "task": None,
        "runtime": None,
        "license": stated_license(path),
        "lineage": [],
        "files": {},
        "versions": library_versions(),
    }
