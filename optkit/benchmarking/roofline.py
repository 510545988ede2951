"""The roofline: what a model must compute and move at a shape, against what this machine can do.

time ≥ max(operations / peak rate, bytes / memory bandwidth)   (Williams, Waterman and Patterson 2009)

Operations and bytes are counted on the ONNX graph; the peaks are measured, not looked up, because a
virtual machine's clock is not the data sheet's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.runtimes import kv_cache

if TYPE_CHECKING:
    import onnx


#: Rows × inner × columns of the probe's products: as in small and base encoders. Larger squares leave
#: the cache and gave a third less on the machine this was tuned on.
PRODUCTS = ((1024, 384, 384), (1024, 384, 1536), (512, 768, 768))
#: Bytes that the bandwidth probe copies, whatever the number of threads: twice as many are allocated.
COPIED = 256 * 1024 * 1024
_INTEGER = ("MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul", "MatMulIntegerToFloat")


@dataclass(frozen=True)
class Work:
    """One inference: multiply-adds count as two. `low` are operations that run in 8 bits.

    `products` are those with a weight, `precision` that of all that is not low, `low_precision` of what is.
    """

    operations: float
    low: float
    bytes: float
    products: float = 0.0
    precision: str = "fp32"
    low_precision: str = "int8"


@dataclass(frozen=True)
class Peak:
    """What this machine does at best: operations per second by precision, bytes per second.

    `bf16` is None where the processor has no bf16 products, or torch, which measures it, is missing;
    `fp16` and `fp8` are measured on GPUs only.
    """

    fp32: float
    int8: float
    bandwidth: float
    bf16: float | None = None
    fp16: float | None = None
    fp8: float | None = None

    def rate(self, precision: str) -> float:
        """Operations per second in `precision`; that of fp32 where it was not measured."""
        return getattr(self, precision, None) or self.fp32

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def count(model: onnx.ModelProto, batch: int, tokens: int) -> Work:
    """Work of one inference of a transformer graph at batch × tokens.

    A MatMul with a constant weight runs once per token, or once per example where one token is all
    that is left (poolers and heads, and the last layer where only its first token is read); a
    decoder, whose graph has a cache, has no such place. Attention is counted from its fused nodes or
    its products of two activations. Bytes are the weights, which must be read once; tables count the
    rows looked up.
    """
    sizes = {t.name: list(t.dims) for t in model.graph.initializer}
    producers = {out: node for node in model.graph.node for out in node.output}
    single = _one_token_tensors(model)
    operations = low = moved = products = 0.0
    hidden = 0
    decodes = any(value.name.startswith(kv_cache.PAST) for value in model.graph.input)
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm", *_INTEGER):
            name, integer = _weight(node, sizes, producers)
            if name is None:
                continue
            rows, columns = sizes[name]
            pooled = (node.op_type == "Gemm" and not decodes) or node.input[0] in single
            vectors = batch if pooled else batch * tokens
            work = 2.0 * rows * columns * vectors
            operations += work
            products += work
            low += work if integer else 0.0
            moved += rows * columns * (1 if integer else 4)
            hidden = max(hidden, rows if rows == columns else 0)
    for node in model.graph.node:
        if node.op_type in ("MultiHeadAttention", "Attention", "Softmax"):
            queries = 1 if node.input[0] in single else tokens
            # Scores and weighted sum: two products of queries × tokens × hidden, in fp32.
            operations += 4.0 * batch * queries * tokens * hidden
    return Work(operations, low, moved, products=products)


def as_precision(work: Work, precision: str) -> Work:
    """The work of an fp32 graph if all its weights had `precision`: 2 bytes each, or 1 and 8-bit products."""
    if work.low:  # the graph itself says what is in 8 bits
        return replace(work, precision="bf16", low_precision=precision)
    if precision in ("fp16", "bf16"):
        return replace(work, bytes=work.bytes / 2, precision=precision)
    if precision == "weight-only":  # as few as 4 bits; kernels may round activations to 8
        return replace(work, bytes=work.bytes / 8, low=work.products, low_precision="int8")
    if precision in ("int8", "fp8"):
        return replace(
            work, bytes=work.bytes / 4, low=work.products, precision="bf16", low_precision=precision
        )
    return work


def bound_ms(work: Work, peak: Peak) -> float:
    """The least time of one inference, in milliseconds."""
    low = peak.rate(work.low_precision)
    arithmetic = (work.operations - work.low) / peak.rate(work.precision) + work.low / low
    return 1000 * max(arithmetic, work.bytes / peak.bandwidth)


def probe(threads: int, clock: Callable[[], float] = perf_counter) -> Peak:
    """Measure the peaks with ONNX Runtime's own kernels and with plain copies; about two seconds.

    Run it in a process of its own: its thread pool would disturb what is timed beside it.
    """
    return Peak(
        fp32=max(_rate("MatMul", shape, threads, clock) for shape in PRODUCTS),
        int8=max(_rate("MatMulInteger", shape, threads, clock) for shape in PRODUCTS),
        bandwidth=_copy_rate(threads, clock),
    )


def probe_bf16(threads: int, clock: Callable[[], float] = perf_counter) -> float:
    """The peak of bf16 products (torch's oneDNN kernels), in operations per second."""
    import torch

    torch.set_num_threads(threads)

    def rate(rows: int, inner: int, columns: int) -> float:
        a, b = (torch.ones(s, dtype=torch.bfloat16) for s in ((rows, inner), (inner, columns)))
        return 2.0 * rows * inner * columns / _fastest(lambda: a @ b, clock)

    return max(rate(*shape) for shape in PRODUCTS)


def graph_of(folder: Path) -> onnx.ModelProto | None:
    """The graph of an `onnx` artifact without its weights' values, or None where there is none."""
    files = sorted(folder.glob("*.onnx"))
    if len(files) != 1:
        return None
    import onnx

    return onnx.load(str(files[0]), load_external_data=False)


def _weight(
    node: onnx.NodeProto, sizes: dict[str, list[int]], producers: dict[str, Any]
) -> tuple[str | None, bool]:
    """The constant matrix of a multiply and whether it is INT8, through DequantizeLinear if need be."""
    for name in node.input[:4]:
        maker = producers.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear":
            name, integer = maker.input[0], True
        else:
            integer = node.op_type in _INTEGER
        if len(sizes.get(name, ())) == 2:
            return name, integer
    return None, False


def _one_token_tensors(model: onnx.ModelProto) -> set[str]:
    """Tensors with one vector per example: picked by Gather, cut by Slice, pooled, and what follows."""
    constant = {tensor.name for tensor in model.graph.initializer} | {""}
    indices = {t.name for t in model.graph.initializer if len(t.dims) == 0}
    bounds = {t.name: tuple(_small(t)) for t in model.graph.initializer if list(t.dims) == [1]}
    single: set[str] = set()
    for node in model.graph.node:
        changing = [name for name in node.input if name not in constant]
        if not changing:
            constant.update(node.output)  # weights on their way through DequantizeLinear
            continue
        if node.op_type == "MultiHeadAttention":
            changing = changing[:1]  # it gives as many tokens as the query has
        picked = node.op_type == "Gather" and node.input[1] in indices
        cut = node.op_type == "Slice" and [bounds.get(n) for n in node.input[1:4]] == [(0,), (1,), (1,)]
        if picked or cut or node.op_type in ("ReduceMean", "Gemm") or single.issuperset(changing):
            single.update(node.output)
    return single


def _small(tensor: onnx.TensorProto) -> list[int]:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor).tolist()


def _rate(operator: str, shape: tuple[int, int, int], threads: int, clock: Callable[[], float]) -> float:
    """Operations per second of one matrix product; its second factor is constant, so it can be packed."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rows, inner, columns = shape
    rng = np.random.default_rng(0)
    if operator == "MatMul":
        a, b = (rng.normal(size=s).astype(np.float32) for s in ((rows, inner), (inner, columns)))
        kinds = TensorProto.FLOAT, TensorProto.FLOAT
    else:
        a = rng.integers(0, 255, (rows, inner)).astype(np.uint8)
        b = rng.integers(-127, 127, (inner, columns)).astype(np.int8)
        kinds = TensorProto.UINT8, TensorProto.INT32
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(operator, ["a", "b"], ["c"])],
            "probe",
            [helper.make_tensor_value_info("a", kinds[0], [rows, inner])],
            [helper.make_tensor_value_info("c", kinds[1], [rows, columns])],
            [numpy_helper.from_array(b, "b")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    return 2.0 * rows * inner * columns / _fastest(lambda: session.run(None, {"a": a}), clock)


def _fastest(
    run: Callable[[], object], clock: Callable[[], float], least: int = 8, seconds: float = 0.4
) -> float:
    """Seconds of the fastest run: a peak is what the machine can do undisturbed."""
    run()
    best, times, first = float("inf"), 0, clock()
    while times < least or (clock() - first < seconds and times < 1000):
        begun = clock()
        run()
        best, times = min(best, clock() - begun), times + 1
    return max(best, 1e-9)


def _copy_rate(threads: int, clock: Callable[[], float]) -> float:
    """Bytes per second, read plus written, of one copy larger than most caches, shared by all threads."""
    source, target = np.ones(COPIED, np.uint8), np.empty(COPIED, np.uint8)
    pairs = list(zip(np.array_split(source, threads), np.array_split(target, threads)))
    with ThreadPoolExecutor(threads) as pool:
        seconds = _fastest(lambda: list(pool.map(lambda p: np.copyto(p[1], p[0]), pairs)), clock)
    return 2.0 * COPIED / seconds
