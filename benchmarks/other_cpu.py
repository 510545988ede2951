"""How far answers move on another CPU: stored answers of artifacts made here, by lesser instruction sets.

Run: python benchmarks/other_cpu.py CHECKPOINT DATA [WORK [PART]]
Writes benchmarks/results/other_cpu.json; about 5 minutes, and needs gcc. One machine stands for all:
other_cpu.c hides instruction sets from a process (CPUID faulting, Linux on x86-64), and libraries choose
kernels by what is left. Artifacts are made, and their answers stored, with everything the CPU has. Beside the
stored answers, 200 sentences of the validation split are answered: how many labels change.

Prediction, written before the run: fp32 within 1e-5; INT8 within 2% wherever there is VNNI, and by 10% and
more without it in ONNX Runtime, whose products saturate then unless weights have 7 bits; bf16 within 3%.
What happened: fp32 within 1e-6, INT8 with VNNI within 2e-6 and with 7 bits within .7%; without VNNI by 4%
(dynamic), 9% (static) and 6% (OpenVINO); the worst of the 200 sentences moved by 30%, 35% and 15%.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from optkit.benchmarking import stored_answers
from optkit.benchmarking.environment import describe
from optkit.core.artifact import MANIFEST, Artifact
from optkit.core.files import read_json, write_json
from optkit.data.dataset import Data
from optkit.data.examples import EncodedSet
from optkit.errors import OptkitError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.runtimes.settings import stored_runtime
from optkit.tasks.base import Columns, open_task

FILE = Path(__file__).parent / "results" / "other_cpu.json"
SENTENCES = 200
#: Bits of CPUID leaf 7: EBX, ECX, EDX, EAX of its second part, EDX of that.
AMX = (0, 0, 1 << 22 | 1 << 24 | 1 << 25, 1 << 21, 0)
BF16 = (0, 0, 1 << 23, 1 << 5, 0)  # and FP16
VNNI = (0, 1 << 11, 0, 0, 0)
AVX512 = (
    1 << 16 | 1 << 17 | 1 << 21 | 1 << 28 | 1 << 30 | 1 << 31,
    1 << 1 | 1 << 6 | 1 << 12 | 1 << 14,
    0,
    0,
    0,
)
AVX_VNNI = (0, 0, 0, 1 << 4, 1 << 4 | 1 << 5 | 1 << 10)
MACHINES = {
    "as it is": (),
    "AVX-512 with VNNI and bf16, no AMX": (AMX,),
    "AVX-512 without VNNI": (AMX, BF16, VNNI, AVX_VNNI),
    "AVX2": (AMX, BF16, VNNI, AVX512, AVX_VNNI),
}
#: Name → passes behind export-onnx, and runtime options beside those of the passes.
MODELS: dict[str, tuple[list[tuple[str, dict[str, Any]]], dict[str, Any]]] = {
    "onnxruntime fp32": ([], {}),
    "onnxruntime int8 dynamic": ([("quantize-dynamic", {})], {}),
    "onnxruntime int8 dynamic, 7 bits": ([("quantize-dynamic", {"reduce_range": True})], {}),
    "onnxruntime int8 static": ([("quantize-static", {})], {}),
    "openvino fp32": ([("open-vino", {})], {}),
    "openvino bf16": ([("open-vino", {})], {"precision": "bf16"}),
    "openvino int8, rest f32": ([("open-vino-int8", {"rest": "f32"})], {}),
    "openvino int8, rest bf16": ([("open-vino-int8", {"rest": "bf16"})], {}),
}


def main(checkpoint: str, data: str, work: Path, part: str = "") -> None:
    """`part`: only models whose name begins so, beside what the file has of others."""
    source = fetch(checkpoint)
    task, examples = open_task(source), work / "examples.npz"
    context = make_context(task, Data(data))
    task.read(Data(data).split("validation", SENTENCES), Columns()).encoded.save(examples)
    library = work / "other_cpu.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(Path(__file__).with_suffix(".c"))],
        check=True,
    )
    begun = read_json(FILE, OptkitError)["rows"] if part and FILE.exists() else []
    rows = [row for row in begun if not row["model"].startswith(part)]
    for name, (steps, options) in MODELS.items():
        if not name.startswith(part):
            continue
        made = source
        for number, (step, parameters) in enumerate([("export-onnx", {}), *steps]):
            folder = work / f"{name}-{number}" if number else work / "exported"
            made = (
                Artifact.open(folder)
                if folder.exists()
                else apply(make(step, parameters), made, folder, context)
            )
        if options:
            manifest = read_json(made.path / MANIFEST, OptkitError)
            manifest["runtime"]["options"] = options
            write_json(made.path / MANIFEST, manifest)
        stored_answers.Writer().write(str(made.path), {"threads": 1})
        first: np.ndarray | None = None
        for machine, hidden in MACHINES.items():
            bits = [0] * 5
            for group in hidden:
                bits = [a | b for a, b in zip(bits, group)]
            environment = dict(os.environ, HIDDEN=" ".join(f"{b:x}" for b in bits), LD_PRELOAD=str(library))
            file = work / "logits.npy"
            done = subprocess.run(
                [
                    sys.executable,
                    str(Path(__file__).resolve()),
                    "child",
                    str(made.path),
                    str(examples),
                    str(file),
                ],
                env=environment if hidden else None,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                rows.append(
                    {"model": name, "machine": machine, "error": done.stderr.strip().splitlines()[-1]}
                )
                print(rows[-1], flush=True)
                continue
            logits = np.load(file)
            first = logits if first is None else first
            rows.append(
                {
                    "model": name,
                    "machine": machine,
                    **json.loads(done.stdout.splitlines()[-1]),
                    "labels_changed": int((logits.argmax(1) != first.argmax(1)).sum()),
                    "largest_difference": float(np.abs(logits - first).max() / np.abs(first).max()),
                }
            )
            print(rows[-1], flush=True)
            write_json(FILE, {"environment": describe(1), "sentences": SENTENCES, "rows": rows})


def child(folder: str, examples: str, file: str) -> None:
    """Answer as this process's CPU does; bf16 is taken as stored, whatever is known of it."""
    artifact = Artifact.open(folder)
    stored, task = stored_answers.read(artifact), open_task(artifact)
    assert stored is not None
    runtime, options = stored_runtime(artifact)
    with open_session(artifact, runtime, threads=1, **options) as session:
        machine = stored_answers.machine_of(session, stored.machine.runtime)
        begun = time.process_time()  # others may be at work
        checked = stored_answers.compare(session, artifact, task, stored, machine)
        seconds = time.process_time() - begun
        outputs = infer_all(session, EncodedSet.load(Path(examples)), 1, 4096)
        np.save(file, np.stack(outputs["logits"]))
    print(json.dumps({"differences": checked.differences, "cpu_seconds": seconds}))


if __name__ == "__main__":
    if sys.argv[1] == "child":
        child(*sys.argv[2:])
    elif len(sys.argv) > 3:
        main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
    else:
        with tempfile.TemporaryDirectory(prefix="optkit-other-cpu-") as scratch:
            main(sys.argv[1], sys.argv[2], Path(scratch))
