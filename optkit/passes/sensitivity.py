"""Which matrix multiply suffers most from INT8: each one quantized alone, ranked by what it moves.

The distance is the mean squared difference of the outputs to those in fp32. Rounding is simulated
in float (quantize and dequantize), so the rank does not depend on the machine's kernels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optkit import kv_cache
from optkit.artifact import Artifact
from optkit.errors import DataError
from optkit.examples import EncodedSet
from optkit.passes import graph
from optkit.passes.calibration import Range, activation_ranges

#: Training examples that each multiply is judged on.
EXAMPLES = 64


def scan(
    source: Artifact,
    samples: EncodedSet,
    names: Sequence[str],
    progress: Callable[[str, float | None], None] = lambda text, fraction: None,
    threads: int | None = None,
) -> list[tuple[str, float]]:
    """(name, distance) of the multiplies `names` of an ONNX artifact, the most sensitive first.

    Weights are rounded per output channel, symmetric; inputs per tensor, asymmetric, to the range
    seen in `samples`. Raises DataError where there are none.
    """
    if len(samples) == 0:
        raise DataError("A sensitivity scan needs examples, received none.")
    model = graph.load_graph(source.path)
    nodes = {node.name: node for node in model.graph.node}
    weights = graph.initializers(model)
    tensors = sorted({nodes[name].input[0] for name in names})
    ranges = activation_ranges(model, tensors, samples, "min-max", 100.0, lambda text, fraction: None)
    batches = [samples.batch(indices) for indices in samples.batches(16, 4096)]
    expected = _outputs(model, batches, threads)
    found = []
    for place, name in enumerate(names):
        progress(f"sensitivity: {name}", place / len(names))
        node = nodes[name]
        weight = weights[node.input[1]]
        before, feed = weight.raw_data, node.input[0]
        _round_weight(node, weight)
        _round_input(model, node, ranges[feed])
        moved = _outputs(model, batches, threads)
        found.append((name, float(np.mean([np.mean((a - b) ** 2) for a, b in zip(expected, moved)]))))
        weight.raw_data = before
        node.input[0] = feed
        _remove_rounding(model)
    return sorted(found, key=lambda pair: -pair[1])


def _round_weight(node: Any, weight: Any) -> None:
    """Round `weight` in place as INT8 would, one scale per output channel."""
    values = np.frombuffer(weight.raw_data, dtype=np.float32).reshape(tuple(weight.dims))
    transposed = graph.is_transposed(node)
    scales = np.maximum(np.abs(values).max(axis=1 if transposed else 0, keepdims=True), 1e-12) / 127
    weight.raw_data = (np.rint(values / scales) * scales).astype(np.float32).tobytes()


def _round_input(model: Any, node: Any, limits: Range) -> None:
    """Put a Q/DQ pair before `node`'s first input."""
    from onnx import helper, numpy_helper

    low, high = limits
    scale = max(high - low, 1e-12) / 255
    zero = int(np.clip(np.rint(-low / scale), 0, 255))
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.float32(scale), "scan_scale"),
            numpy_helper.from_array(np.uint8(zero), "scan_zero"),
        ]
    )
    extra = [
        helper.make_node("QuantizeLinear", [node.input[0], "scan_scale", "scan_zero"], ["scan_q"], "scan_q"),
        helper.make_node("DequantizeLinear", ["scan_q", "scan_scale", "scan_zero"], ["scan_dq"], "scan_dq"),
    ]
    place = next(i for i, n in enumerate(model.graph.node) if n.name == node.name)
    node.input[0] = "scan_dq"
    for offset, one in enumerate(extra):
        model.graph.node.insert(place + offset, one)


def _remove_rounding(model: Any) -> None:
    for kind in (model.graph.node, model.graph.initializer):
        for place in reversed([i for i, one in enumerate(kind) if one.name.startswith("scan_")]):
            del kind[place]


def _outputs(model: Any, batches: list[dict[str, np.ndarray]], threads: int | None) -> list[np.ndarray]:
    """The first output on each batch. Optimized no further: a fused pair would compute in INT8."""
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
        inputs, first = session.get_inputs(), session.get_outputs()[0].name
        return [session.run([first], kv_cache.selected(batch, inputs))[0] for batch in batches]
