"""Which matrix multiply suffers most from INT8: each one quantized alone, ranked by what it moves.

The distance is the mean squared difference of the outputs to those in fp32, as a share of their mean square:
the vectors of two towers have lengths of their own. Rounding is simulated in float (quantize and dequantize),
so the rank does not depend on the kernels. One session holds all multiplies, each behind a switch; a
multiply then costs one forward pass over the examples.

One backward pass would rank all at once, by squared gradient times squared rounding error. It needs the
gradients of the graph that is quantized, and that graph (packed, cut, pruned, of any task) exists in ONNX
only, which has no backward pass in ONNX Runtime; the scan also sees what a product of two errors does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optkit.core.artifact import Artifact
from optkit.data.examples import EncodedSet
from optkit.errors import DataError
from optkit.passes import graph
from optkit.passes.calibration import Range, activation_ranges
from optkit.runtimes import kv_cache

if TYPE_CHECKING:
    import onnx


#: Training examples that each multiply is judged on.
EXAMPLES = 64


def scan(
    source: Artifact,
    samples: EncodedSet,
    names: Sequence[str],
    progress: Callable[[str, float | None], None] = lambda text, fraction: None,
    threads: int | None = None,
    method: str = "min-max",
    percentile: float = 100.0,
    file: str = graph.MODEL_FILE,
) -> list[tuple[str, float]]:
    """(name, distance) of the multiplies `names` of a graph of an ONNX artifact, the most sensitive first.

    Weights are rounded per output channel, symmetric; inputs per tensor, asymmetric, to the range that
    calibration by `method` finds in `samples`. Raises DataError where there are none.
    """
    if len(samples) == 0:
        raise DataError("A sensitivity scan needs examples, received none.")
    model = graph.load_graph(source.path, file)
    nodes = {node.name: node for node in model.graph.node}
    tensors = sorted({nodes[name].input[0] for name in names})
    ranges = activation_ranges(model, tensors, samples, method, percentile, lambda text, fraction: None)
    batches = [samples.batch(indices) for indices in samples.batches(16, 4096)]
    _put_switches(model, names, ranges)
    run = _session(model, names, threads)
    expected = [run(batch, None) for batch in batches]
    whole = max(float(np.mean([np.mean(a.astype(np.float64) ** 2) for a in expected])), 1e-30)
    distances = []
    for index, name in enumerate(names):
        progress(f"sensitivity: {name}", index / len(names))
        moved = [run(batch, name) for batch in batches]
        apart = float(np.mean([np.mean((a - b) ** 2) for a, b in zip(expected, moved)]))
        distances.append((name, apart / whole))
    return sorted(distances, key=lambda pair: -pair[1])


def _put_switches(model: onnx.ModelProto, names: Sequence[str], ranges: dict[str, Range]) -> None:
    """Replace each multiply by an If on an input of its own, in place: its rounded form, or itself."""
    from onnx import TensorProto, helper, numpy_helper

    weights, chosen = graph.initializers(model), set(names)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        name, out = node.name, node.output[0]
        values, scales = _rounded(node, numpy_helper.to_array(weights[node.input[1]]))
        low, high = ranges[node.input[0]]
        scale = max(high - low, 1e-12) / 255
        zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
        rounding = {"s": np.float32(scale), "z": zero, "w": values, "ws": scales}
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), f"scan_{key}_{name}")
            for key, value in rounding.items()
        )
        s, z, w, ws = (f"scan_{key}_{name}" for key in rounding)
        x, y = f"scan_x_{name}", f"scan_y_{name}"
        inside = [
            helper.make_node("QuantizeLinear", [node.input[0], s, z], [f"{x}_q"]),
            helper.make_node("DequantizeLinear", [f"{x}_q", s, z], [x]),
            helper.make_node(
                "DequantizeLinear", [w, ws], [f"{w}_dq"], axis=0 if graph.is_transposed(node) else 1
            ),
            _like(node, [x, f"{w}_dq", *node.input[2:]], y),
        ]
        rounded = helper.make_graph(inside, f"rounded_{name}", [], [_value(y)])
        plain = helper.make_graph(
            [_like(node, list(node.input), f"{y}_plain")], f"plain_{name}", [], [_value(f"{y}_plain")]
        )
        switch = f"scan_{name}"
        model.graph.input.append(helper.make_tensor_value_info(switch, TensorProto.BOOL, []))
        nodes.append(
            helper.make_node("If", [switch], [out], f"{name}_switch", then_branch=rounded, else_branch=plain)
        )
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _rounded(node: onnx.NodeProto, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """INT8 values and one scale per output channel."""
    scales = graph.symmetric_scales(weight, 0 if graph.is_transposed(node) else 1)
    return np.rint(weight / scales).astype(np.int8), scales.reshape(-1).astype(np.float32)


def _like(node: onnx.NodeProto, inputs: list[str], output: str) -> onnx.NodeProto:
    """`node` with other names of its inputs and output."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.input[:], copy.output[:]
    copy.input.extend(inputs)
    copy.output.append(output)
    return copy


def _value(name: str) -> onnx.ValueInfoProto:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _session(
    model: onnx.ModelProto, names: Sequence[str], threads: int | None
) -> Callable[[dict[str, np.ndarray], str | None], np.ndarray]:
    """run(batch, name) → the first output with the multiply `name` rounded, or none.

    Optimized no further than the basics: a fused pair would compute in INT8.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads or 0
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.add_session_config_entry("session.disable_quant_qdq", "1")
    settings.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="optkit-scan-") as folder:
        graph.save_graph(model, Path(folder))
        session = onnxruntime.InferenceSession(
            str(Path(folder) / graph.MODEL_FILE), settings, providers=["CPUExecutionProvider"]
        )
    switches = {f"scan_{name}" for name in names}
    inputs = [spec for spec in session.get_inputs() if spec.name not in switches]
    first = session.get_outputs()[0].name

    def run(batch: dict[str, np.ndarray], name: str | None) -> np.ndarray:
        feeds = {**kv_cache.selected(batch, inputs), **{s: np.array(s == f"scan_{name}") for s in switches}}
        return session.run([first], feeds)[0]

    return run
