"""Is it really INT8? The share of matrix multiplies, and of time, that ran in INT8 kernels.

A file in INT8 proves nothing: a runtime may turn weights back to float and multiply there. So the
runtime is asked what it ran: ONNX Runtime by its profile, OpenVINO by its own profiling.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core.artifact import Artifact
from optkit.runtimes import kv_cache
from optkit.runtimes.seq2seq import DECODER, ENCODER
from optkit.runtimes.settings import stored_runtime
from optkit.runtimes.towers import IDS, IMAGE, PIXELS, TEXT
from optkit.runtimes.vino_core import core

if TYPE_CHECKING:
    import openvino


#: ONNX Runtime's kernels that multiply integers.
INTEGER = frozenset(
    {
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QGemm",
        "QLinearMatMul",
        "QLinearConv",
        "QAttention",
        "ConvInteger",
    }
)
#: Its kernels that multiply floats.
FLOAT = frozenset(
    {"Attention", "Conv", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul", "MultiHeadAttention"}
)
#: How the types of OpenVINO's layers that multiply begin.
_LAYERS = ("FullyConnected", "MatMul", "Convolution", "MHA", "ScaledDotProductAttention")
RUNS = 5


@dataclass(frozen=True)
class Int8Share:
    """`multiplies` and `int8_multiplies` count nodes run once per answer; fused attention counts as one.

    `time_share` is the share of all kernel time spent in INT8 multiplies; `multiply_time_share` the
    same among multiplies. `provider` names who ran them.
    """

    provider: str
    multiplies: int
    int8_multiplies: int
    time_share: float
    multiply_time_share: float

    def to_dict(self) -> dict[str, Any]:
        share = self.int8_multiplies / self.multiplies if self.multiplies else 0.0
        return {**asdict(self), "multiply_share": round(share, 4)}


def measure(
    artifact: Artifact, runtime: str, feeds: dict[str, np.ndarray], options: dict[str, Any]
) -> Int8Share | None:
    """Run `artifact` on `feeds` with profiling on; None for a runtime that gives no profile."""
    options = {**stored_runtime(artifact)[1], **options}
    if runtime == "onnxruntime":
        return summed("CPUExecutionProvider", _onnxruntime(artifact, feeds, options))
    if runtime == "openvino":
        return summed("OpenVINO CPU", _openvino(artifact, feeds, options))
    return None


def kernel_times(
    artifact: Artifact, feeds: dict[str, np.ndarray], options: dict[str, Any], runs: int = 25
) -> dict[str, float]:
    """Node → microseconds that its kernel takes in ONNX Runtime, the median of `runs` answers to `feeds`.

    A multiply keeps its name when it becomes an integer kernel, so that two graphs can be compared.
    """
    taken: dict[str, list[float]] = {}
    for event, _, spent in _onnxruntime(artifact, feeds, options, runs):
        taken.setdefault(event.removesuffix("_kernel_time"), []).append(spent)
    return {node: float(np.median(times)) for node, times in taken.items()}


def summed(provider: str, kernels: Iterable[tuple[str, str, float]]) -> Int8Share:
    """From (node, kind, microseconds) with kind int8, float or other; a node may come several times.

    >>> summed("x", [("a", "int8", 3.0), ("b", "float", 1.0), ("c", "other", 1.0)]).time_share
    0.6
    """
    nodes: dict[str, set[str]] = {"int8": set(), "float": set(), "other": set()}
    time = dict.fromkeys(nodes, 0.0)
    for node, number_type, spent in kernels:
        nodes[number_type].add(node)
        time[number_type] += spent
    multiplies = time["int8"] + time["float"]
    everything = multiplies + time["other"]
    return Int8Share(
        provider,
        len(nodes["int8"]) + len(nodes["float"]),
        len(nodes["int8"]),
        round(time["int8"] / everything, 4) if everything else 0.0,
        round(time["int8"] / multiplies, 4) if multiplies else 0.0,
    )


def _onnxruntime(
    artifact: Artifact, feeds: dict[str, np.ndarray], options: dict[str, Any], runs: int = RUNS
) -> list[tuple[str, str, float]]:
    files = {f.name: f for f in artifact.model_files if f.suffix == ".onnx"}
    if set(files) == {ENCODER, DECODER}:  # the first token that is written behind the source
        kernels, source = _profiled(files[ENCODER], feeds, options, runs)
        rows = len(next(iter(feeds.values())))
        tokens = feeds.get("input_ids", np.zeros((rows, 1), dtype=np.int64))[:, :1]
        first = {**feeds, **source, "input_ids": tokens}
        written, _ = _profiled(files[DECODER], first, options, runs)
        both = (("encoder", kernels), ("decoder", written))
        return [(f"{part}/{node}", kind, spent) for part, seen in both for node, kind, spent in seen]
    parts = _parts(list(files.values()), feeds)
    return [kernel for file, read in parts for kernel in _profiled(file, read, options, runs)[0]]


def _parts(files: list[Path], feeds: dict[str, np.ndarray]) -> list[tuple[Path, dict[str, np.ndarray]]]:
    """Each graph of a model with what it reads of `feeds`: all of it, or of two towers texts or images."""
    if len(files) == 1:
        return [(files[0], feeds)]
    flat, named = {n: x.reshape(-1, *x.shape[2:]) for n, x in feeds.items()}, {f.stem: f for f in files}
    first = {TEXT: IDS, IMAGE: PIXELS}
    return [(named[Path(graph).stem], flat) for graph, name in first.items() if len(flat[name])]


def _profiled(
    file: Path, feeds: dict[str, np.ndarray], options: dict[str, Any], runs: int
) -> tuple[list[tuple[str, str, float]], dict[str, np.ndarray]]:
    """The kernels of the graph in `file`, and what it answers."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.get("threads") or 0
    settings.log_severity_level = 3
    settings.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="optkit-profile-") as folder:
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        inputs = kv_cache.selected(feeds, session.get_inputs())
        for spec in session.get_inputs():
            if isinstance(spec.shape[-1], int):  # of a long sound its first window
                inputs[spec.name] = inputs[spec.name][..., : spec.shape[-1]]
        names = [output.name for output in session.get_outputs()]
        for _ in range(runs):
            outputs = dict(zip(names, session.run(None, inputs)))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = []
    for event in events:
        operator = event.get("args", {}).get("op_name")
        if event.get("cat") == "Node" and operator and event["name"].endswith("_kernel_time"):
            number_type = "int8" if operator in INTEGER else "float" if operator in FLOAT else "other"
            kernels.append((event["name"], number_type, float(event["dur"])))
    return kernels, outputs


def _openvino(
    artifact: Artifact, feeds: dict[str, np.ndarray], options: dict[str, Any]
) -> list[tuple[str, str, float]]:
    suffix = ".xml" if artifact.format == "openvino" else ".onnx"
    files = [f for f in artifact.model_files if f.suffix == suffix]
    return [kernel for file, read in _parts(files, feeds) for kernel in _compiled(file, read, options)]


def _compiled(
    file: Path, feeds: dict[str, np.ndarray], options: dict[str, Any]
) -> list[tuple[str, str, float]]:
    """The kernels of the model in `file`."""
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": options.get("precision", "f32"),
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": "YES",
    }
    if options.get("threads"):
        settings["INFERENCE_NUM_THREADS"] = options["threads"]
    compiled = core().compile_model(core().read_model(str(file)), "CPU", settings)
    request = compiled.create_infer_request()
    inputs = {port.get_any_name(): feeds[port.get_any_name()] for port in compiled.inputs}
    with_attention = _subgraphs_that_multiply(compiled)
    kernels = []
    for _ in range(RUNS):
        request.infer(inputs)
        for info in request.get_profiling_info():
            if info.status != openvino.ProfilingInfo.Status.EXECUTED:
                continue
            number_type = "other"
            if info.node_type.startswith(_LAYERS) or info.node_name in with_attention:
                number_type = "int8" if info.exec_type.lower().endswith(("_i8", "_u8")) else "float"
            kernels.append((info.node_name, number_type, info.real_time.total_seconds() * 1e6))
    return kernels


def _subgraphs_that_multiply(compiled: openvino.CompiledModel) -> set[str]:
    """Names of the fused subgraphs that hold a product of two activations: attention."""
    kernels = set()
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        layers = info["originalLayersNames"].astype(str).lower()
        if info["layerType"].astype(str) == "Subgraph" and "matmul" in layers:
            kernels.add(op.get_friendly_name())
    return kernels
