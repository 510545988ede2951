"""The process that times single sublayers in ONNX Runtime. Spoken to through `optkit.core.process.Child`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.events import Events, Progress

if TYPE_CHECKING:
    import onnx

#: Passes over all graphs: what disturbs the machine for a moment spoils one visit of a few graphs.
PASSES = 4
#: Of one visit: runs before the clock counts, the fewest timed runs, and seconds until it ends.
WARMUP, FEWEST, SECONDS = 3, 8, 0.03


class LatencyWorker:
    """Each graph is loaded, timed and closed again: idle thread pools of others would spin beside it."""

    emit: Events

    def time(
        self, blocks: list[list[Any]], tokens: int, precision: str = "fp32", threads: int | None = None
    ) -> list[float]:
        """Milliseconds of each [block's fields, units]: the least, for other work only ever adds."""
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{i}.onnx" for i in range(len(blocks))]
            for file, (block, units) in zip(files, blocks):
                save(block, units, file, precision)
            best = [np.inf] * len(files)
            for number in range(PASSES):
                for i, (file, (block, _)) in enumerate(zip(files, blocks)):
                    best[i] = min(best[i], _visit(file, tokens, block["hidden"], threads))
                self.emit(Progress("timing sublayers", (number + 1) / PASSES))
        return [float(seconds * 1000) for seconds in best]


def serve() -> LatencyWorker:
    return LatencyWorker()


def save(block: dict[str, Any], units: int, file: Path, precision: str) -> None:
    """A graph of one sublayer with random weights, in the form in which `export-onnx` writes it."""
    import onnx

    graph = _Graph()
    hidden, sizes = block["hidden"], [size * units for size in block["projections"]]
    if block["kind"] == "heads":
        inner = _attention(graph, hidden, sizes, block["head_size"])
    else:
        first, *gate = [graph.linear("x", hidden, size) for size in sizes]
        inner = graph.add("Gelu", [first], domain="com.microsoft")
        for other in gate:
            inner = graph.add("Mul", [inner, other])
    graph.outputs.append(graph.linear(inner, block["width"] * units, hidden))
    if precision == "int8":
        import logging

        from onnxruntime.quantization import QuantType, quantize_dynamic

        logging.disable(logging.WARNING)  # advice that does not apply
        quantize_dynamic(
            graph.model(hidden),
            str(file),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    else:
        onnx.save(graph.model(hidden), str(file))


def _attention(graph: _Graph, hidden: int, sizes: list[int], head_size: int) -> str:
    """Query, key and value in one product; keys and values repeated where several heads share them.

    Further projections (DeBERTa's of positions) are computed and lead nowhere.
    """
    query, key, value, *others = sizes
    graph.outputs += [graph.linear("x", hidden, size) for size in others]
    whole = graph.linear("x", hidden, query + key + value)
    q, k, v = graph.split(whole, [query, key, value])
    if query > key:
        k, v = (graph.add("Concat", [x] * (query // key), axis=-1) for x in (k, v))
    heads = query // head_size
    return graph.add("MultiHeadAttention", [q, k, v], domain="com.microsoft", num_heads=heads)


class _Graph:
    """Nodes and random weights, and names for them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.outputs: list[str] = []
        self._random = np.random.default_rng(0)

    def add(self, operator: str, inputs: list[str], count: int = 1, **attributes: Any) -> Any:
        """The name of the node's output; with a `count` above 1 a list of them."""
        from onnx import helper

        names = [f"{operator}_{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(operator, inputs, names, names[0], **attributes))
        return names if count > 1 else names[0]

    def linear(self, x: str, rows: int, columns: int) -> str:
        weight = self._constant(self._random.standard_normal((rows, columns)).astype(np.float32) / rows**0.5)
        bias = self._constant(np.zeros(columns, dtype=np.float32))
        return self.add("Add", [self.add("MatMul", [x, weight]), bias])

    def split(self, x: str, sizes: list[int]) -> list[str]:
        return self.add("Split", [x, self._constant(np.array(sizes, dtype=np.int64))], len(sizes), axis=-1)

    def _constant(self, values: np.ndarray) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(values, f"weight_{len(self.weights)}"))
        return self.weights[-1].name

    def model(self, hidden: int) -> onnx.ModelProto:
        from onnx import TensorProto, helper

        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "tokens", hidden])
        outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in self.outputs]
        graph = helper.make_graph(self.nodes, "sublayer", [x], outputs, self.weights)
        versions = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=versions, ir_version=10)


def _visit(file: Path, tokens: int, hidden: int, threads: int | None) -> float:
    """Seconds of the fastest run of one graph."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads or 0
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    feeds = {"x": np.random.default_rng(0).standard_normal((1, tokens, hidden)).astype(np.float32)}
    for _ in range(WARMUP):
        session.run(None, feeds)
    taken: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(taken) < FEWEST or time.perf_counter() < until:
        begun = time.perf_counter()
        session.run(None, feeds)
        taken.append(time.perf_counter() - begun)
    return min(taken)
