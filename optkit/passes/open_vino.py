"""`open-vino`: an ONNX graph becomes an OpenVINO model in fp32."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact, copy_side_files
from optkit.data.examples import EncodedSet
from optkit.errors import MissingDependency, PassError, RecipeError
from optkit.models.checkpoint import is_per_token
from optkit.models.text import pad_token
from optkit.passes import export_check, graph
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.export_check import Check, largest_difference
from optkit.passes.plain_attention import unfuse
from optkit.passes.tower_graphs import tower_config
from optkit.runtimes.towers import rows_of
from optkit.runtimes.vino_core import core
from optkit.tasks.base import Task, aligned

if TYPE_CHECKING:
    import openvino


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
    takes_towers: ClassVar[bool] = True

    tolerance: float = param(1e-3, "largest allowed difference, absolute plus relative", minimum=0.0)

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        copy_side_files(source.path, out)
        samples = context.encoded("validation", CHECKED)
        read, nodes, differences, tokens = rows_of(samples), 0, list[float](), list[int]()
        for name in graph.names_in(source.path):
            context.progress("converting", 0.1)
            model, unfused = convert(source, name)
            save(model, out, name)
            context.progress("comparing with the source", 0.8)
            checks = _checks(
                tower_config(source.config, name),
                read.get(name, samples),
                [port.get_any_name() for port in model.inputs],
            )
            nodes += unfused
            file = str(source.path / name)
            differences.append(_difference(file, model, checks, self.tolerance, context.task))
            tokens += [c.real.shape[1] for c in checks if c.real is not None]
        return {
            "attention_nodes": nodes,
            "max_difference": max(differences),
            "checked_examples": len(samples),
            "checked_up_to_tokens": max(tokens, default=None),
        }


def convert(source: Artifact, name: str = graph.MODEL_FILE) -> tuple[openvino.Model, int]:
    """The graph `name` of `source` as an OpenVINO model in memory, and how many attention nodes were unfused.

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

    plain = graph.load_graph(source.path, name)
    unfused = unfuse(plain)
    try:
        model = openvino.Core().read_model(io.BytesIO(plain.SerializeToString()))
    except Exception as reason:
        raise PassError(
            f"OpenVINO cannot read the graph: {str(reason).strip().splitlines()[-1][:300]}"
        ) from reason
    _name_by_place(model)
    return model, unfused


def save(model: openvino.Model, folder: Path, name: str = graph.MODEL_FILE) -> None:
    """Write .xml and .bin, weights as they are (OpenVINO halves them unless told not to); `name` is that of
    the graph."""
    import openvino

    _name_by_place(model)
    file = MODEL_FILE if name == graph.MODEL_FILE else Path(name).with_suffix(".xml").name
    openvino.save_model(model, str(folder / file), compress_to_fp16=False)


def _name_by_place(model: openvino.Model) -> None:
    """Number the operators that have no name in the graph by their place in it.

    OpenVINO numbers them by a counter of the whole process: the same model would differ in every run.
    """
    for index, op in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{re.escape(op.get_type_name())}_\d+", op.get_friendly_name()) or re.match(
            r"Constant_\d+", op.get_friendly_name()
        ):
            op.set_friendly_name(f"{op.get_type_name()}_{index}")


def compile_cpu(model: openvino.Model, threads: int | None = None) -> openvino.CompiledModel:
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    return core().compile_model(model, "CPU", settings)


def _checks(config: dict[str, Any], samples: EncodedSet, names: list[str]) -> list[Check]:
    """What export-onnx compares with torch, for a graph with the inputs `names`: texts of the data, and those
    about windows, padded on both sides."""
    checks = export_check.of_data(samples, names)
    if "input_ids" in names:
        checks += export_check.checks(config, names, pad_token(config), False, samples)
    return checks


def _difference(file: str, model: openvino.Model, checks: list[Check], tolerance: float, task: Task) -> float:
    """The largest difference of the OpenVINO `model` to the graph in `file`, that it was made from."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    outputs, compiled = session.get_outputs(), compile_cpu(model)

    def right(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        return list(session.run([o.name for o in outputs], feeds))

    def answer(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        received = compiled(feeds)
        return [received[i] for i in range(len(outputs))]

    per_token = [is_per_token(output.shape) for output in outputs]
    expected = [right(check.feeds) for check in checks]
    names = ("its source", "the OpenVINO model")
    in_order = partial(aligned, task, [o.name for o in outputs])
    return largest_difference(checks, expected, answer, right, per_token, tolerance, names, in_order)
