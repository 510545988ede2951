"""Everything that can run on this machine's GPU, in one command and under 8 minutes.

Run: python benchmarks/gpu.py
Writes benchmarks/results/gpu-NAME.json and gpu-NAME.md. Exit codes: 0 written; 77 no GPU, driver or
torch with CUDA here (nothing is written); 1 no row could be measured.

Needs torch and transformers, and no hub: BERT-base and BERT-large get random weights. What is missing
(torchao, TensorRT) is skipped, and its reason is kept. Every row's logits are compared with fp32
torch on the same inputs. Clocks and power are read, never set. Times include no transfers: inputs
lie on the GPU; "host_ms" is the synchronised clock, "gpu_ms" comes from CUDA events.
"""

from __future__ import annotations

import importlib.util
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optkit.bench.environment import describe
from optkit.cuda.probe import Gpu, probe
from optkit.cuda.state import read_state, settled
from optkit.errors import OptkitError

RESULTS = Path(__file__).parent / "results"
NO_GPU, BUDGET_S = 77, 440.0
SIZES = {"bert-base": (768, 12, 12, 3072), "bert-large": (1024, 24, 16, 4096)}
SHAPES = ((1, 128), (8, 128), (32, 128), (128, 128))
#: Largest difference of a logit to fp32, as a share of the largest logit.
ALLOWED = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.1, "int8": 0.3, "fp8": 0.3}


@dataclass(frozen=True)
class Variant:
    """`dtype` decides the allowed difference and the peak; `needs` names packages beyond torch."""

    name: str
    dtype: str
    attention: str = "sdpa"
    compiled: bool = False
    torchao: str = ""
    needs: tuple[str, ...] = ()
    capability: float = 0.0


VARIANTS = (
    Variant("torch eager fp32", "fp32", "eager"),
    Variant("torch sdpa fp16", "fp16"),
    Variant("torch sdpa bf16", "bf16"),
    Variant("torch compile + CUDA graphs fp16", "fp16", compiled=True),
    Variant("torch compile + CUDA graphs bf16", "bf16", compiled=True),
    Variant(
        "torchao int8 + CUDA graphs",
        "int8",
        compiled=True,
        torchao="Int8DynamicActivationInt8WeightConfig",
        needs=("torchao",),
    ),
    Variant(
        "torchao fp8 + CUDA graphs",
        "fp8",
        compiled=True,
        torchao="Float8DynamicActivationFloat8WeightConfig",
        needs=("torchao",),
        capability=8.9,
    ),
)


def reason_to_skip(variant: Variant, gpu: Gpu, is_there: Callable[[str], bool], left_s: float) -> str | None:
    """Why `variant` cannot run here; None where it can."""
    missing = [name for name in variant.needs if not is_there(name)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if float(gpu.capability) < variant.capability:
        return f"needs compute capability {variant.capability}, this is {gpu.capability}"
    return "the 8 minutes are used up" if left_s <= 0 else None


def flops(size: tuple[int, int, int, int], batch: int, tokens: int) -> float:
    """Operations of the matrix products of one forward pass (2 per multiply-add), head left out."""
    hidden, layers, _, wide = size
    per_token = 4 * hidden * hidden + 2 * hidden * wide + 2 * tokens * hidden
    return 2.0 * layers * batch * tokens * per_token


def bound_ms(
    size: tuple[int, int, int, int], batch: int, tokens: int, dtype: str, peaks: dict[str, float]
) -> float | None:
    """The roofline: the longer of computing at the measured rate and reading the weights once."""
    rate = peaks.get(f"{dtype}_flops")
    if not rate or not peaks.get("copy_bytes"):
        return None
    hidden, layers, _, wide = size
    width = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}[dtype]
    weights = layers * (4 * hidden * hidden + 2 * hidden * wide) * width
    return 1000 * max(flops(size, batch, tokens) / rate, weights / peaks["copy_bytes"])


def measure_peaks(torch: Any, device: str) -> dict[str, float]:
    """Rates reached by a large product per type, in operations per second, and by a copy, in bytes
    read and written per second."""
    peaks: dict[str, float] = {}
    for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(8192, 8192, device=device, dtype=dtype) for _ in range(2))
        taken = statistics.median(event_times(torch, lambda a=a, b=b: a @ b, 5, 20))
        peaks[f"{name}_flops"] = 2 * 8192**3 / (taken / 1000)
    block = torch.empty(2**29, dtype=torch.uint8, device=device)
    other = torch.empty_like(block)
    taken = statistics.median(event_times(torch, lambda: other.copy_(block), 5, 20))
    peaks["copy_bytes"] = 2 * block.numel() / (taken / 1000)
    return peaks


def event_times(torch: Any, work: Callable[[], Any], warm: int, repeats: int) -> list[float]:
    """GPU milliseconds of each call, from events."""
    for _ in range(warm):
        work()
    samples = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        samples.append(float(begin.elapsed_time(end)))
    return samples


def host_times(torch: Any, work: Callable[[], Any], repeats: int) -> list[float]:
    """Milliseconds from an idle GPU until it is idle again."""
    samples = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        work()
        torch.cuda.synchronize()
        samples.append((time.perf_counter() - begun) * 1000)
    return samples


def build(torch: Any, variant: Variant, size: tuple[int, int, int, int], device: str) -> Any:
    """The model with fixed random weights as `variant` runs it."""
    import transformers

    hidden, layers, heads, wide = size
    config = transformers.BertConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=wide
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    model.set_attn_implementation(variant.attention)
    half = {"fp32": torch.float32, "fp16": torch.float16}.get(variant.dtype, torch.bfloat16)
    model = model.to(device=device, dtype=half)
    if variant.torchao:
        import torchao.quantization as quantization

        quantization.quantize_(model.bert.encoder, getattr(quantization, variant.torchao)())
    return torch.compile(model, mode="reduce-overhead", dynamic=False) if variant.compiled else model


def warm_up(work: Callable[[], Any], most_s: float = 3.0) -> None:
    """Work until the clock of the GPU has settled, or `most_s` have passed."""
    begun, clocks = time.monotonic(), []
    while not (len(clocks) >= 3 and settled(clocks)) and time.monotonic() - begun < most_s:
        for _ in range(10):
            work()
        clocks.append(read_state()["sm_mhz"])


def one_row(
    torch: Any,
    model: Any,
    reference: Any,
    variant: Variant,
    size_name: str,
    shape: tuple[int, int],
    peaks: dict[str, float],
) -> dict[str, Any]:
    """One shape of one variant: samples, memory, state of the GPU, difference to fp32."""
    batch, tokens = shape
    generator = torch.Generator(device="cuda").manual_seed(1)
    ids = torch.randint(5, 30000, shape, device="cuda", generator=generator)
    feeds = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def work() -> Any:
        return model(**feeds).logits

    expected = reference(**feeds).logits.float()
    warm_up(work)
    found = work().float()
    difference = float((found - expected).abs().max() / expected.abs().max())
    torch.cuda.reset_peak_memory_stats()
    gpu_ms, host_ms = event_times(torch, work, 3, 30), host_times(torch, work, 30)
    bound = bound_ms(SIZES[size_name], batch, tokens, variant.dtype, peaks)
    median = statistics.median(host_ms)
    return {
        "model": size_name,
        "variant": variant.name,
        "batch": batch,
        "tokens": tokens,
        "gpu_ms": gpu_ms,
        "host_ms": host_ms,
        "median_host_ms": median,
        "median_gpu_ms": statistics.median(gpu_ms),
        "sequences_per_s": 1000 * batch / median,
        "share_of_bound": bound / median if bound else None,
        "difference": difference,
        "correct": difference <= ALLOWED[variant.dtype],
        "peak_memory_bytes": int(torch.cuda.max_memory_allocated()),
        "state": read_state(),
    }


def table(rows: list[dict[str, Any]], skipped: list[dict[str, str]]) -> str:
    """The rows as a Markdown table, and below it what was skipped and why."""
    lines = [
        "| model | variant | batch x tokens | ms (host) | ms (GPU) | sequences/s | roofline | difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        share = "not measured" if r["share_of_bound"] is None else f"{r['share_of_bound']:.0%}"
        wrong = "" if r["correct"] else " (too large)"
        lines.append(
            f"| {r['model']} | {r['variant']} | {r['batch']} x {r['tokens']} | {r['median_host_ms']:.3f} "
            f"| {r['median_gpu_ms']:.3f} | {r['sequences_per_s']:,.0f} | {share} "
            f"| {r['difference']:.2%}{wrong} |"
        )
    lines += ["", *(f"- skipped: {s['what']}: {s['reason']}" for s in skipped)]
    return "\n".join(lines) + "\n"


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def run(torch: Any, gpu: Gpu) -> dict[str, Any]:
    begun = time.monotonic()
    rows: list[dict[str, Any]] = []
    skipped = [{"what": "TensorRT", "reason": "this script measures torch; use optkit bench with an engine"}]
    peaks = measure_peaks(torch, "cuda")
    with torch.inference_mode():
        for size_name, size in SIZES.items():
            reference = build(torch, VARIANTS[0], size, "cuda")
            for variant in VARIANTS:
                what = f"{size_name}, {variant.name}"
                left = BUDGET_S - (time.monotonic() - begun)
                reason = reason_to_skip(variant, gpu, is_installed, left)
                if reason is None:
                    try:
                        model = build(torch, variant, size, "cuda")
                        rows += [
                            one_row(torch, model, reference, variant, size_name, s, peaks) for s in SHAPES
                        ]
                    except Exception as error:  # one variant that fails must not cost the others
                        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                if reason is not None:
                    skipped.append({"what": what, "reason": reason})
                    print(f"skipped {what}: {reason}", file=sys.stderr)
    return {
        "gpu": gpu.record(),
        "environment": describe(),
        "torch": torch.__version__,
        "peaks": peaks,
        "rows": rows,
        "skipped": skipped,
    }


def write(result: dict[str, Any], folder: Path) -> Path:
    """The JSON and beside it the table; gives the JSON's path."""
    name = re.sub(r"[^a-z0-9]+", "-", str(result["gpu"]["name"]).lower()).strip("-")
    file = folder / f"gpu-{name}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(table(result["rows"], result["skipped"]), encoding="utf-8")
    return file


def main() -> int:
    try:
        gpu = probe()
    except OptkitError as error:
        print(f"no GPU: {error}", file=sys.stderr)
        return NO_GPU
    import torch

    if not torch.cuda.is_available():
        print("no GPU: this torch has no CUDA, or cannot use the driver.", file=sys.stderr)
        return NO_GPU
    result = run(torch, gpu)
    if not result["rows"]:
        print("error: no row could be measured.", file=sys.stderr)
        return 1
    print(f"{write(result, RESULTS)}\n{table(result['rows'], result['skipped'])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
