"""What a GPU does at best, measured with torch: matrix products by type, and copies.

Shared by `optkit compress --target cuda`, `optkit bench` and benchmarks/gpu.py. It runs on the CPU too, with
small sizes, which is how it is tested.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from optkit.benchmarking.roofline import Peak

if TYPE_CHECKING:
    from types import ModuleType


#: Side of the square products, and bytes of the copy: large enough to leave every cache.
SIDE, BLOCK = 8192, 2**29


def measure_peaks(torch: ModuleType, device: str = "cuda", side: int = SIDE, block: int = BLOCK) -> Peak:
    """Operations per second by precision and bytes per second read plus written.

    A precision without a kernel on this device is None (fp32 and fp16 always have one).
    """

    def floats(dtype: object) -> float:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        return _rate(torch, device, lambda: a @ b, side)

    def int8() -> float:
        a, b = (torch.ones(side, side, device=device, dtype=torch.int8) for _ in range(2))
        return _rate(torch, device, lambda: torch._int_mm(a, b), side)

    def fp8() -> float:
        a, b = (torch.ones(side, side, device=device).to(torch.float8_e4m3fn) for _ in range(2))
        one = torch.ones((), device=device)
        multiply = torch._scaled_mm
        return _rate(torch, device, lambda: multiply(a, b.t(), one, one, out_dtype=torch.bfloat16), side)

    source = torch.empty(block, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    taken = median(times_ms(torch, device, lambda: target.copy_(source)))
    return Peak(
        fp32=floats(torch.float32),
        fp16=floats(torch.float16),
        bf16=_or_none(lambda: floats(torch.bfloat16)),
        int8=_or_none(int8) or 0.0,
        fp8=_or_none(fp8),
        bandwidth=2 * block / (taken / 1000),
    )


def times_ms(
    torch: ModuleType, device: str, work: Callable[[], object], warm: int = 5, repeats: int = 20
) -> list[float]:
    """Milliseconds of each call: by CUDA events, on a CPU by the clock."""
    for _ in range(warm):
        work()
    if device.split(":")[0] != "cuda":
        samples = []
        for _ in range(repeats):
            begun = time.perf_counter()
            work()
            samples.append((time.perf_counter() - begun) * 1000)
        return samples
    pairs = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize(device)
    return [float(begin.elapsed_time(end)) for begin, end in pairs]


def _rate(torch: ModuleType, device: str, work: Callable[[], object], side: int) -> float:
    return 2.0 * side**3 / (median(times_ms(torch, device, work)) / 1000)


def _or_none(measure: Callable[[], float]) -> float | None:
    """None where the device has no such kernel, whatever error torch raises for that."""
    try:
        return measure()
    except (RuntimeError, ValueError, AttributeError, NotImplementedError):
        return None
