"""optkit's INT8 beside what a user would pick instead, each peer set up from its released packages.

Run: python benchmarks/peers/run.py CHECKPOINT DATA OPTKIT_ARTIFACT [WORK] [PHASE...]
Phases: make, score, time (default: all, in this order); each leaves a file in WORK, and the last run of
each is joined in benchmarks/results/peers.json. `time` alone wants a quiet machine.

Each peer gets a virtual environment of its own under WORK and makes a model there by the recipe of its
own documentation; then all models are scored on validation and test, paired with the checkpoint in
torch, and timed side by side as `optkit bench` does. torch.compile and torchao run in this environment's
torch, since they make no file. A peer that cannot be installed or fails has its error in the results.

Prediction, written before the first run: at every shape the fastest peer is OpenVINO with NNCF; dynamic
INT8 from optimum-onnx, Olive and neural-compressor lie within 10% of each other, since all three call
the same quantizer, and behind optkit, since none of them fuses attention on this checkpoint; torchao
is slower than torch in fp32 at short texts. optkit is 1.15 to 1.25 times as fast as the best peer: its
last layer works for one token (14% of the products), and short texts gain from packed projections.

What happened, on a quiet machine: the prediction failed. `optkit compress --int8` had chosen dynamic INT8 by
the data's own lengths, where it is as fast as the best peer (1.01 [0.89, 1.14]); at 128 tokens it loses to
OpenVINO with NNCF, by 11% at batch 1 and by 29% at batch 32. Geometric mean over the shapes 0.87, goal 1.2.
Since then candidates that own lengths do not tell apart are told apart by all shapes. That chose OpenVINO in
a second run: 1.08 to 1.11 times the best peer from 32 tokens on, 0.80 on own lengths, 1.02 in the mean (a
third run: 1.02 again). Before the fourth NNCF was told to leave the products inside attention in float,
expecting 5 to 10% at short texts: 1.04 at 1x16, 1.13 at 1x32, 0.93 on own lengths, 1.08 in the mean.
An earlier, disturbed run with a static model made by hand had said 1.06. Olive fuses attention (its workflow
calls ONNX Runtime's optimizer for transformers), which was not expected; neural-compressor loses 10 points
on validation; optimum-onnx cannot quantize what its own O2 wrote.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import venv
from dataclasses import asdict, dataclass, field
from math import exp, log
from pathlib import Path
from typing import Any

from optkit.benchmarking.accuracy import load_outputs
from optkit.benchmarking.environment import describe
from optkit.benchmarking.evaluation import Evaluator
from optkit.benchmarking.latency import measure, speedup
from optkit.benchmarking.plan import Candidate, Plan, Shape
from optkit.benchmarking.roofline import count, graph_of
from optkit.core.artifact import MANIFEST, SCHEMA, listing
from optkit.core.files import write_json
from optkit.core.process import Child
from optkit.data.dataset import Data
from optkit.models.checkpoint import fetch
from optkit.tasks.base import Columns, open_task

HERE = Path(__file__).parent
RESULT = HERE.parent / "results" / "peers.json"
SHAPES = tuple(map(Shape.parse, ("1x16", "1x32", "1x128", "8x128", "32x128", "1xdata")))
THREADS = 2
TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Peer:
    """`script` (beside this file) makes `model` in the folder it is given, in an environment with `requires`.

    Without a script the checkpoint itself is run. `runtime` and `options` are what the peer's
    documentation serves it with; packages in `beside` are put on the path of that process.
    """

    requires: tuple[str, ...] = ()
    script: str | None = None
    arguments: tuple[str, ...] = ()
    model: str = "model.onnx"
    runtime: str = "onnxruntime"
    options: dict[str, Any] = field(default_factory=dict)
    environment: str | None = None
    beside: tuple[str, ...] = ()


_OPTIMUM = ("optimum-onnx[onnxruntime]==0.1.0", TORCH)
PEERS = {
    "openvino-nncf": Peer(
        ("openvino==2026.4.1", "nncf==3.4.0", "transformers==5.23.0", TORCH),
        "openvino_nncf.py",
        model="openvino_model.xml",
        runtime="openvino",
        options={"precision": "bf16"},  # what OpenVINO takes by itself where the CPU has it
    ),
    "optimum-onnx": Peer(_OPTIMUM, "optimum_onnx.py"),
    "optimum-onnx-O2": Peer(_OPTIMUM, "optimum_onnx.py", ("O2",), environment="optimum-onnx"),
    "olive": Peer(("olive-ai==0.13.0", "onnxruntime==1.32.0", "transformers<5", TORCH), "olive_ai.py"),
    "neural-compressor": Peer(
        (
            *("neural-compressor==2.6", "onnx==1.16.2", "onnxruntime==1.20.1", "transformers<5", "numpy<2"),
            *("setuptools<81", "six", TORCH),  # which it imports and does not ask for
        ),
        "neural_compressor_onnx.py",
    ),
    "torch-compile": Peer(runtime="torch", options={"compile": True}),
    "torchao": Peer(
        runtime="torch", options={"compile": True, "quantize": "int8"}, beside=("torchao==0.18.0",)
    ),
}


def main(checkpoint: str, data: str, artifact: str, work: str = "work/peers", *phases: str) -> None:
    folder = Path(work).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for phase in phases or ("make", "score", "time"):
        if phase == "make":
            made = {n: prepare(n, p, checkpoint, data, folder) for n, p in PEERS.items()}
            save(folder, "make", {"optkit": of_optkit(artifact), **made})
            continue
        made = json.loads((folder / "make.json").read_text(encoding="utf-8"))
        sys.path += [m["beside"] for m in made.values() if m.get("beside")]
        candidates = [
            Candidate("torch", checkpoint, "torch"),
            Candidate("optkit", artifact),
            *(
                Candidate(name, m["model"], PEERS[name].runtime, PEERS[name].options)
                for name, m in made.items()
                if name in PEERS and m["error"] is None
            ),
        ]
        save(folder, phase, {"score": score, "time": race}[phase](candidates, checkpoint, data, folder))
    found = {
        p: json.loads(f.read_text())
        for p in ("make", "score", "time")
        if (f := folder / f"{p}.json").exists()
    }
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def save(folder: Path, phase: str, found: dict[str, Any]) -> None:
    (folder / f"{phase}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def of_optkit(artifact: str) -> dict[str, Any]:
    """What `optkit compress --int8` took for all its models and scores when it made `artifact`; no timing."""
    report = json.loads((Path(artifact) / "report.json").read_text(encoding="utf-8"))
    rows = [row for row in report["rows"] if row["parent"]]
    return {
        "models": [row["name"] for row in rows],
        "chosen": report["chosen"],
        "seconds": round(report["seconds"] - report["measuring_seconds"], 1),
        "peak_rss_bytes": report["peak_rss_bytes"],
        "error": None,
    }


def prepare(name: str, peer: Peer, checkpoint: str, data: str, work: Path) -> dict[str, Any]:
    """Install the peer and let it make its model; seconds and peak memory of making, or the error."""
    home = work / name
    result: dict[str, Any] = {"requires": peer.requires, "script": peer.script, "error": None}
    try:
        if peer.beside:
            result["beside"] = str(home / "site")
            if not (home / "site").exists():
                target = ["--no-deps", "--target", str(home / "site")]
                run([sys.executable, "-m", "pip", "install", "-q", *target, *peer.beside])
        if peer.script is None:
            return {**result, "model": checkpoint}
        python = work / (peer.environment or name) / "venv" / "bin" / "python"
        if not (python.parents[2] / "installed").exists():
            venv.create(python.parents[1], with_pip=True, clear=True)
            run([str(python), "-m", "pip", "install", "-q", *peer.requires])
            (python.parents[2] / "installed").touch()
        out = home / "model"
        result["model"] = str(out)
        if not (out / MANIFEST).exists():
            out.mkdir(parents=True, exist_ok=True)
            begun = time.monotonic()
            script = [str(python), str(HERE / peer.script), str(Path(checkpoint).resolve())]
            peak = run([*script, str(Path(data).resolve()), str(out), *peer.arguments])
            made = {"seconds": round(time.monotonic() - begun, 1), "peak_rss_bytes": peak}
            if not (out / peer.model).exists():
                return {
                    **result,
                    "error": f"It made no {peer.model}: {sorted(p.name for p in out.iterdir())}.",
                }
            as_artifact(out, peer, checkpoint, made)
        result.update(json.loads((out / "made.json").read_text(encoding="utf-8")))
    except subprocess.CalledProcessError as error:
        result["error"] = (error.stderr or "")[-800:]
    return result


def as_artifact(out: Path, peer: Peer, checkpoint: str, made: dict[str, Any]) -> None:
    """What optkit needs beside a model to score and time it."""
    for file in out.glob("*.onnx"):
        if file.name != peer.model:
            file.unlink()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (out / name).write_bytes((Path(checkpoint) / name).read_bytes())
    write_json(out / "made.json", made)
    kind = "openvino" if peer.model.endswith(".xml") else "onnx"
    manifest = {"schema": SCHEMA, "format": kind, "precision": "int8", "task": None, "runtime": None}
    write_json(out / MANIFEST, {**manifest, "lineage": [], "files": listing(out), "versions": {}})


def score(candidates: list[Candidate], checkpoint: str, data: str, work: Path) -> dict[str, Any]:
    """Accuracy on the whole of validation and test, and the paired drop to torch in fp32."""
    task = open_task(fetch(checkpoint))
    found: dict[str, Any] = {}
    for split in ("validation", "test"):
        evaluator = evaluator_of(task, data, split, work)
        baseline = None
        for candidate in candidates:
            try:
                row = evaluator.answer(candidate, work / f"{candidate.name}.npz", baseline)
            except Exception as reason:  # a peer that cannot answer must not end the comparison
                found.setdefault(candidate.name, {})[split] = {"error": str(reason)[-400:]}
                continue
            if baseline is None:
                baseline = load_outputs(work / f"{candidate.name}.npz")
            drop = asdict(row.drop) if row.drop else None
            found.setdefault(candidate.name, {})[split] = {"accuracy": row.score, "drop": drop}
            print(candidate.name, split, row.score, drop, file=sys.stderr)
    return found


def race(candidates: list[Candidate], checkpoint: str, data: str, work: Path) -> dict[str, Any]:
    """All side by side; per shape optkit's speed over each, and its share of the INT8 roofline."""
    evaluator = evaluator_of(open_task(fetch(checkpoint)), data, "validation", work)
    plan = Plan(SHAPES, rounds=5, processes=2, budget_ms_per_round=40, threads=THREADS, redraws=0)
    measured = measure(candidates, evaluator.encoded_file, plan)
    with Child("optkit.benchmarking.roofline_worker", threads=THREADS) as child:
        peak = child.call("probe", threads=THREADS)
    ours, rows = measured["optkit"], {}
    for candidate in candidates:
        theirs = measured[candidate.name]
        if theirs.error:
            rows[candidate.name] = {"error": theirs.error[-400:]}
            continue
        rows[candidate.name] = {str(shape): timed(theirs, ours, shape) for shape in SHAPES}
    peers = {n: r for n, r in rows.items() if n not in ("torch", "optkit") and "error" not in r}
    best = {str(s): min(peers, key=lambda n: peers[n][str(s)]["p50_ms"]) for s in SHAPES}
    ratios = {shape: peers[name][shape]["optkit_times_as_fast"] for shape, name in best.items()}
    return {
        "environment": describe(THREADS),
        "plan": {k: v for k, v in asdict(plan).items() if k != "shapes"},
        "doubts": measured.doubts,
        "best_peer": best,
        "against_best": ratios,
        "geometric_mean": exp(sum(log(r["value"]) for r in ratios.values()) / len(ratios)),
        "peaks": peak,
        "roofline_share": shares(candidates[1].artifact, rows["optkit"], peak),
        "rows": rows,
    }


def timed(theirs: Any, ours: Any, shape: Shape) -> dict[str, Any]:
    """Median in ms (mean over the data's own lengths), and how many times as fast optkit is."""
    import numpy as np

    every = np.concatenate([x for draw in theirs.samples[shape] for x in draw])
    middle = float(np.median(every) if shape.fixed else np.mean(every))
    ratio = None if theirs is ours else asdict(speedup(theirs, ours, shape))
    return {"p50_ms": round(middle, 4), "samples": len(every), "optkit_times_as_fast": ratio}


def shares(artifact: str, row: dict[str, Any], peak: dict[str, float]) -> dict[str, Any]:
    """Least time at the INT8 peak and the memory's bandwidth, over the time taken.

    Counted on the fp32 graph that the artifact was made from, every operation as INT8 and every
    weight as one byte: `own` for what the artifact computes, `whole` for the model with every token.
    """
    found: dict[str, Any] = {}
    folder = Path(artifact).parent
    for name, where in (("own", folder / "fp32"), ("whole", folder / "fp32-whole")):
        graph = graph_of(where) if where.exists() else None
        for shape in (s for s in SHAPES if s.fixed and graph is not None):
            work = count(graph, shape.batch, int(shape.tokens))
            least = 1000 * max(work.operations / peak["int8"], work.bytes / 4 / peak["bandwidth"])
            found.setdefault(name, {})[str(shape)] = round(least / row[str(shape)]["p50_ms"], 4)
    return found


def evaluator_of(task: Any, data: str, split: str, work: Path) -> Evaluator:
    labelled = task.read(Data(data).split(split), Columns())
    file = work / f"{split}.npz"
    labelled.encoded.save(file)
    return Evaluator(task, labelled, file, Plan(SHAPES, threads=THREADS))


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
