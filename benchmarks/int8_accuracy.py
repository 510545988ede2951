"""What every kind of INT8 costs in accuracy: SST-2, whole validation and test, paired against fp32.

Run: python benchmarks/int8_accuracy.py [CHECKPOINT] [DATA]
Every candidate of `--int8`, every calibration with and without bias correction, SmoothQuant, INT8 in the
feed-forward blocks only, and as a control the naive static QDQ of ONNX Runtime (its `quantize_static` with
its defaults on a plain export, calibrated on the same sentences). Nothing is retrained. Writes
benchmarks/results/int8_accuracy.json: per split the score, the paired drop against fp32 with its 95%
interval, the agreement, and the mean squared difference of the logits, which tells two kinds apart long
before the score does. Defaults are decided on validation; test is only reported.

Written before the run: the control loses about 0.8 points on validation, quantize-static with min-max
ranges under 0.3, open-vino-int8 nothing. Bias correction lowers the difference of the logits by a tenth or
more with every calibration and changes the score by less than its interval; the cuts of percentile, entropy
and mse do more harm than good in a transformer (entropy most), and bias correction repairs some of it.

After: the control lost 3.2 points on validation and 2.3 on test, four times what was expected: its defaults
round every operator, signed and per tensor. quantize-static lost 0.2 on validation and gained 0.4 on test;
OpenVINO gained on both. Bias correction lowered the difference of the logits by a sixth with min-max and a
tenth with percentile, raised it with mse and entropy, and moved no score by more than its interval.
Percentile and mse did no harm, against the prediction; entropy lost 3 points. What nobody predicted:
SmoothQuant at 0.85 lowers the difference of the logits to a sixth of that without it, below OpenVINO's and
below INT8 in the feed-forward blocks alone, and at 0.15 it ruins the model.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from optkit.benchmarking.accuracy import Outputs, paired_drop
from optkit.benchmarking.environment import describe
from optkit.core.artifact import Artifact, copy_side_files, library_versions, seal
from optkit.data.dataset import Data
from optkit.models.checkpoint import fetch
from optkit.passes import graph
from optkit.passes.base import PassContext, apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, Labelled, Task, open_task

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"
SPLITS = ("validation", "test")
CALIBRATION_EXAMPLES = 256
_STATIC = "quantize-static"
#: Name → pass on the fused fp32 graph (None: no pass) and its fields.
CANDIDATES: dict[str, tuple[str | None, dict[str, Any]]] = {
    "fp32": (None, {}),
    "dynamic": ("quantize-dynamic", {}),
    **{
        f"static {method}{', bias correction' if bias else ''}": (
            _STATIC,
            {"calibration": method, "bias_correction": bias},
        )
        for method in ("min-max", "percentile", "entropy", "mse")
        for bias in (False, True)
    },
    "static min-max, symmetric": (_STATIC, {"symmetric": True}),
    "static min-max, per tensor": (_STATIC, {"per_channel": False}),
    "static min-max, per tensor, bias correction": (_STATIC, {"per_channel": False, "bias_correction": True}),
    **{
        f"static SmoothQuant {strength}{', bias correction' if bias else ''}": (
            _STATIC,
            {"smooth_quant": strength, "bias_correction": bias},
        )
        for strength in (0.15, 0.5, 0.85)
        for bias in (False, True)
    },
    "static, feed-forward only": (_STATIC, {"scope": "ffn"}),
    "openvino": ("open-vino-int8", {}),
    "openvino, attention too": ("open-vino-int8", {"attention": True}),
}


def main(
    checkpoint: str = str(SHARED / "checkpoints" / "minilm-l6-sst2"),
    data: str = str(SHARED / "data" / "sst2"),
) -> None:
    source = fetch(checkpoint)
    task, examples = open_task(source), Data(data)
    context = make_context(task, examples)
    labelled = {split: task.read(examples.split(split), Columns()) for split in SPLITS}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fp32 = apply(make("export-onnx", {}), source, folder / "fp32", context)
        before = {split: _outputs(fp32, labelled[split]) for split in SPLITS}
        for number, (name, (step, fields)) in enumerate(CANDIDATES.items()):
            begun = time.monotonic()
            made = apply(make(step, fields), fp32, folder / str(number), context) if step else fp32
            rows.append(_row(name, {"pass": step, **fields}, made, time.monotonic() - begun))
            rows[-1]["splits"] = {s: _compared(made, task, labelled[s], before[s]) for s in SPLITS}
            _tell(rows[-1])
        control = naive(source, folder, context)
        rows.append(_row("control: naive static QDQ", {"pass": "onnxruntime quantize_static"}, control, None))
        rows[-1]["splits"] = {s: _compared(control, task, labelled[s], before[s]) for s in SPLITS}
        _tell(rows[-1])
    result = {
        "checkpoint": Path(checkpoint).name,
        "data": Path(data).name,
        "metric": task.metric,
        "calibration_examples": CALIBRATION_EXAMPLES,
        "environment": describe(),
        "versions": library_versions(),
        "rows": rows,
    }
    file = HERE / "results" / "int8_accuracy.json"
    file.write_text(json.dumps(result, indent=1, default=str) + "\n", encoding="utf-8")


def naive(source: Artifact, folder: Path, context: PassContext) -> Artifact:
    """ONNX Runtime's own static quantization of a plain export, its defaults untouched, on the same texts."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    plain = apply(make("export-onnx", {"attention": "plain"}), source, folder / "plain", context)
    samples = context.encoded("train", CALIBRATION_EXAMPLES)
    names = plain.lineage[-1]["notes"]["inputs"]

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter(range(len(samples)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            place = next(self._left, None)
            return None if place is None else {n: samples.batch([place])[n] for n in names}

    out = folder / "naive"
    out.mkdir()
    with graph.quiet():
        quantize_static(str(plain.path / graph.MODEL_FILE), str(out / graph.MODEL_FILE), Reader())
    copy_side_files(plain.path, out)
    lineage = {"pass": "quantize_static", "parameters": {}, "notes": {}, "seconds": 0.0}
    return seal(out, plain, lineage, precision="int8")


def _row(name: str, step: dict[str, Any], made: Artifact, seconds: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "step": step,
        "size_bytes": made.size_bytes,
        "seconds": None if seconds is None else round(seconds, 1),
        "operators": graph.operator_counts(graph.load_graph(made.path)) if made.format == "onnx" else {},
    }


def _outputs(artifact: Artifact, labelled: Labelled) -> Outputs:
    with open_session(artifact) as session:
        return infer_all(session, labelled.encoded, 32, 4096)


def _compared(artifact: Artifact, task: Task, labelled: Labelled, before: Outputs) -> dict[str, Any]:
    """The score of `artifact`, and its loss against fp32's outputs `before` on the same examples."""
    found = _outputs(artifact, labelled)
    was, now = task.answers(before), task.answers(found)
    references = labelled.references
    paired = paired_drop(task.outcomes(was, references), task.outcomes(now, references))
    logits = [np.stack(outputs["logits"]).astype(np.float64) for outputs in (before, found)]
    return {
        "examples": len(references),
        "score": task.score(now, references),
        "drop": paired.drop,
        "low": paired.low,
        "high": paired.high,
        "p_value": paired.p_value,
        "agreement": task.agreement(now, was),
        "logits_mse": float(np.mean((logits[0] - logits[1]) ** 2)),
    }


def _tell(row: dict[str, Any]) -> None:
    shown = "; ".join(
        f"{split} {x['score']:.4f} ({0 - x['drop']:+.4f} [{-x['high']:+.4f}, {-x['low']:+.4f}]), "
        f"logits {x['logits_mse']:.5f}"
        for split, x in row["splits"].items()
    )
    print(f"{row['name']}: {shown}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
