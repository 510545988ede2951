"""optkit's INT8 beside what a user would pick instead, each peer set up from its released packages.

Run: python benchmarks/peers/run.py CHECKPOINT DATA OPTKIT_ARTIFACT [WORK]
Writes benchmarks/results/peers.json. Each peer gets a virtual environment of its own under WORK (kept, so
that a second run is short) and makes a model there by the recipe of its own documentation; then all
models are timed side by side by `optkit bench`, on the same threads, texts and machine. A peer that
cannot be installed or fails has its error in the results.

Prediction, written before the first run: at every shape the fastest peer is OpenVINO with NNCF; dynamic
INT8 from optimum-onnx, Olive and neural-compressor lie within 10% of each other, since all three call
the same quantizer, and behind optkit, since none of them fuses attention on this checkpoint.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

from optkit.bench.environment import describe
from optkit.benchmarking import benchmark

HERE = Path(__file__).parent
RESULT = HERE.parent / "results" / "peers.json"
SHAPES = ["1x16", "1x32", "1x128", "8x128", "32x128", "1xdata"]
TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Peer:
    """`requires`: what pip installs; `script` (beside this file) makes `model` in the folder it is given."""

    requires: tuple[str, ...]
    script: str
    model: str = "model.onnx"


PEERS = {
    "optimum-onnx": Peer(
        ("optimum-onnx[onnxruntime]==0.1.0", TORCH), "optimum_onnx.py", "model_quantized.onnx"
    ),
    "olive": Peer(("olive-ai==0.13.0", "onnxruntime", "transformers<5", TORCH), "olive_ai.py"),
    "neural-compressor": Peer(
        ("neural-compressor==2.6", "onnx==1.16.2", "onnxruntime==1.20.1", "transformers<5", "numpy<2", TORCH),
        "neural_compressor_onnx.py",
    ),
    "openvino-nncf": Peer(
        ("openvino==2026.4.1", "nncf==3.4.0", "transformers", TORCH),
        "openvino_nncf.py",
        "openvino_model.xml",
    ),
}


def main(checkpoint: str, data: str, artifact: str, work: str = "work/peers") -> None:
    found = {name: prepare(name, peer, checkpoint, data, Path(work)) for name, peer in PEERS.items()}
    made = {name: x["model"] for name, x in found.items() if x["error"] is None}
    report = benchmark(
        [checkpoint, artifact, *made.values()],
        names=["torch", "optkit", *made],
        data=data,
        shapes=SHAPES,
        plan={"threads": 2},
    )
    rows = [
        {
            "name": row.name,
            "score": row.score,
            "agreement": row.agreement,
            "drop": row.drop and vars(row.drop),
            "error": row.reasons if row.verdict == "error" else None,
            "latency": [
                {
                    "shape": f"{x.batch}x{x.tokens}",
                    "p50_ms": round(x.p50_ms, 3),
                    "speedup": x.speedup and vars(x.speedup),
                    "bound_share": x.bound_share,
                }
                for x in row.latency
            ],
        }
        for row in report.rows
    ]
    result = {"environment": describe(2), "peers": found, "rows": rows, "doubts": report.doubts}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=1))


def prepare(name: str, peer: Peer, checkpoint: str, data: str, work: Path) -> dict:
    """Install the peer and let it make its model; seconds of both, peak memory of making, or the error."""
    home = (work / name).resolve()
    python, out = home / "venv" / "bin" / "python", home / "model"
    result = {"requires": peer.requires, "script": peer.script, "model": str(out / peer.model), "error": None}
    try:
        if not (home / "installed").exists():
            venv.create(home / "venv", with_pip=True, clear=True)
            run([str(python), "-m", "pip", "install", "-q", *peer.requires])
            (home / "installed").touch()
        out.mkdir(exist_ok=True)
        begun = time.monotonic()
        script = [str(python), str(HERE / peer.script), str(Path(checkpoint).resolve())]
        peak = run([*script, str(Path(data).resolve()), str(out)])
        result.update(seconds=round(time.monotonic() - begun, 1), peak_rss_bytes=peak)
        for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (out / file).write_bytes((Path(checkpoint) / file).read_bytes())
        if not (out / peer.model).exists():
            result["error"] = f"It made no {peer.model}: {sorted(p.name for p in out.iterdir())}."
    except subprocess.CalledProcessError as error:
        result["error"] = (error.stderr or "")[-800:]
    return result


def run(command: list[str]) -> int:
    """Peak resident memory of `command` in bytes. Raises CalledProcessError."""
    code = (
        "import json, resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=sys.stderr)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024); sys.exit(done.returncode)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    return int(done.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
