"""`open-vino`: an ONNX graph becomes an OpenVINO model in fp32."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optkit.artifact import Artifact, copy_side_files
from optkit.errors import MissingDependency, PassError, RecipeError
from optkit.passes import graph
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.plain_attention import unfuse
from optkit.vino_core import core

MODEL_FILE = "openvino_model.xml"
#: Examples on which the model is compared with its source.
CHECKED = 16


@dataclass(frozen=True)
class OpenVino(Pass):
    """Convert an fp32 ONNX graph to OpenVINO's format (IR), weights in fp32.

    Fused attention goes back to standard operators, from which OpenVINO fuses its own.
    Notes: `max_difference` to the source over the checked examples; `attention_nodes` unfused.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "openvino"
    runtime: ClassVar[str | None] = "openvino"
    precision: ClassVar[str | None] = "fp32"

    tolerance: float = param(1e-3, "largest allowed difference, absolute plus relative", minimum=0.0)

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        context.progress("converting", 0.1)
        model, unfused = convert(source)
        save(model, out)
        copy_side_files(source.path, out)
        context.progress("comparing with the source", 0.8)
        samples = context.encoded("validation", CHECKED)
        names = [port.get_any_name() for port in model.inputs]
        batches = [samples.batch(i) for i in (np.arange(len(samples)), np.argsort(samples.lengths)[:1])]
        feeds = [{name: batch[name] for name in names} for batch in batches]
        return {
            "attention_nodes": unfused,
            "max_difference": _compare(source, model, feeds, self.tolerance),
            "checked_examples": len(samples),
        }


def convert(source: Artifact) -> tuple[Any, int]:
    """`source` as an OpenVINO model in memory, and how many attention nodes were unfused.

    Raises RecipeError for a graph that is not fp32, MissingDependency, and PassError where OpenVINO
    cannot read it.
    """
    if source.precision != "fp32":
        raise RecipeError(
            f"Expected an fp32 graph to convert for OpenVINO, received {source.precision}.",
            hint="Put open-vino-int8 right after export-onnx: it quantizes by itself.",
        )
    try:
        import openvino
    except ImportError:
        raise MissingDependency.of("openvino", "openvino") from None
    import io

    plain = graph.load_graph(source.path)
    unfused = unfuse(plain)
    try:
        model = openvino.Core().read_model(io.BytesIO(plain.SerializeToString()))
    except Exception as reason:
        raise PassError(
            f"OpenVINO cannot read the graph: {str(reason).strip().splitlines()[-1][:300]}"
        ) from reason
    _name_by_place(model)
    return model, unfused


def save(model: Any, folder: Path) -> None:
    """Write .xml and .bin, weights as they are (OpenVINO halves them unless told not to)."""
    import openvino

    _name_by_place(model)
    openvino.save_model(model, str(folder / MODEL_FILE), compress_to_fp16=False)


def _name_by_place(model: Any) -> None:
    """Number the operators that have no name in the graph by their place in it.

    OpenVINO numbers them by a counter of the whole process: the same model would differ in every run.
    """
    for place, op in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{re.escape(op.get_type_name())}_\d+", op.get_friendly_name()) or re.match(
            r"Constant_\d+", op.get_friendly_name()
        ):
            op.set_friendly_name(f"{op.get_type_name()}_{place}")


def compile_cpu(model: Any, threads: int | None = None) -> Any:
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    return core().compile_model(model, "CPU", settings)


def _compare(source: Artifact, model: Any, feeds: list[dict[str, np.ndarray]], tolerance: float) -> float:
    import onnxruntime

    file = str(source.path / graph.MODEL_FILE)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    outputs = [o.name for o in session.get_outputs()]
    compiled = compile_cpu(model)
    worst = 0.0
    for batch in feeds:
        expected = session.run(outputs, batch)
        found = compiled(batch)
        for i, (name, a) in enumerate(zip(outputs, expected)):
            b = found[i]
            graph.refuse_non_finite({name: b}, "The OpenVINO model")
            difference = np.abs(a - b)
            worst = max(worst, float(difference.max()))
            if (difference > tolerance * (1 + np.abs(a))).any():
                raise PassError(
                    f"Expected the OpenVINO model to equal its source within {tolerance:g}, received a "
                    f"difference of {worst:.3g}.",
                    hint="Raise tolerance knowingly, or stay with ONNX Runtime.",
                )
    return worst
