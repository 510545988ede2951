"""Everything that can run on this machine's GPU, in one command and under 8 minutes.

Run: python benchmarks/gpu.py
     python benchmarks/gpu.py --device cpu --quick --out FOLDER   (tries the script where there is no GPU)
Writes gpu-NAME.json and gpu-NAME.md into benchmarks/results. Exit codes: 0 written; 77 no GPU, driver or
torch with CUDA here (nothing is written); 1 no row could be measured.

Needs torch, transformers and onnx, and no hub: BERT-base and BERT-large get random weights. What is missing
(torchao, TensorRT, the shared checkpoint) is skipped, and its reason is kept. Every row's logits are
compared with fp32 torch on the same inputs. Clocks and power are read, never set. "host_ms" is the
synchronised clock and "gpu_ms" comes from CUDA events, both with inputs and answers left on the GPU;
"transfers_ms" begins and ends in host memory. Three parts: fixed shapes; realistic lengths, against
eager fp32 padded to the model's 512 tokens; the shared checkpoint as optkit serves it, with its accuracy.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from gpu_served import served_rows

from optkit.benchmarking import gpu_warmth
from optkit.benchmarking.environment import describe
from optkit.benchmarking.gpu_peaks import BLOCK, SIDE, measure_peaks, times_ms
from optkit.benchmarking.roofline import Peak
from optkit.benchmarking.statistics import ratio_interval
from optkit.benchmarking.targets import Chain, gpu_chains
from optkit.errors import OptkitError
from optkit.runtimes.cuda.probe import Gpu, probe
from optkit.runtimes.cuda.state import read_state

RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).parents[2] / "shared"
NO_GPU, BUDGET_S = 77, 440.0
SIZES = {"bert-base": (768, 12, 12, 3072), "bert-large": (1024, 24, 16, 4096)}
SHAPES = ((1, 128), (8, 128), (32, 128), (128, 128))
LONGEST, BUCKET = 512, 32
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


@dataclass(frozen=True)
class Scope:
    """How much is run: all of it on a GPU, or a little on a CPU, to try the script."""

    device: str = "cuda"
    sizes: tuple[tuple[str, tuple[int, int, int, int]], ...] = tuple(SIZES.items())
    shapes: tuple[tuple[int, int], ...] = SHAPES
    repeats: int = 30
    side: int = SIDE
    block: int = BLOCK
    longest: int = LONGEST
    sentences: int | None = None
    texts: int = 512


QUICK = Scope(
    device="cpu",
    sizes=(("bert-tiny", (64, 2, 4, 128)),),
    shapes=((1, 8), (4, 16)),
    repeats=2,
    side=128,
    block=2**20,
    longest=64,
    sentences=16,
    texts=16,
)


def flops(size: tuple[int, int, int, int], batch: int, tokens: int) -> float:
    """Operations of the matrix products of one forward pass (2 per multiply-add), head left out."""
    hidden, layers, _, wide = size
    per_token = 4 * hidden * hidden + 2 * hidden * wide + 2 * tokens * hidden
    return 2.0 * layers * batch * tokens * per_token


def bound_ms(
    size: tuple[int, int, int, int], batch: int, tokens: int, dtype: str, peak: Peak
) -> float | None:
    """The roofline: the longer of computing at the measured rate and reading the weights once."""
    rate = getattr(peak, dtype)
    if not rate:
        return None
    hidden, layers, _, wide = size
    width = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}[dtype]
    weights = layers * (4 * hidden * hidden + 2 * hidden * wide) * width
    return 1000 * max(flops(size, batch, tokens) / rate, weights / peak.bandwidth)


def host_times(torch: Any, work: Callable[[], Any], repeats: int, device: str) -> list[float]:
    """Milliseconds from an idle device until it is idle again."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    samples = []
    for _ in range(repeats):
        wait()
        begun = time.perf_counter()
        work()
        wait()
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


def warm_up(work: Callable[[], Any], device: str) -> None:
    """Work until the clock of the GPU has settled."""
    if device == "cuda":
        gpu_warmth.settle(work, read_state, time.monotonic)
    else:
        work()


def one_row(
    torch: Any,
    model: Any,
    reference: Any,
    variant: Variant,
    size: tuple[str, tuple[int, int, int, int]],
    shape: tuple[int, int],
    peak: Peak,
    scope: Scope,
) -> dict[str, Any]:
    """One shape of one variant: samples, memory, state of the GPU, difference to fp32."""
    batch, tokens = shape
    on_gpu = scope.device == "cuda"
    host = torch.from_numpy(np.random.default_rng(1).integers(5, 30000, shape))
    ids = host.to(scope.device)
    mask = torch.ones_like(ids)

    def work() -> Any:
        return model(input_ids=ids, attention_mask=mask).logits

    def from_host() -> Any:
        sent = host.to(scope.device)
        return model(input_ids=sent, attention_mask=torch.ones_like(sent)).logits.float().cpu()

    expected = reference(input_ids=ids, attention_mask=mask).logits.float()
    warm_up(work, scope.device)
    difference = float((work().float() - expected).abs().max() / expected.abs().max())
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    gpu_ms = times_ms(torch, scope.device, work, 3, scope.repeats)
    host_ms = host_times(torch, work, scope.repeats, scope.device)
    transfers_ms = host_times(torch, from_host, scope.repeats, scope.device)
    bound = bound_ms(size[1], batch, tokens, variant.dtype, peak)
    median = statistics.median(host_ms)
    return {
        "model": size[0],
        "variant": variant.name,
        "batch": batch,
        "tokens": tokens,
        "gpu_ms": gpu_ms,
        "host_ms": host_ms,
        "transfers_ms": transfers_ms,
        "median_host_ms": median,
        "median_gpu_ms": statistics.median(gpu_ms),
        "median_transfers_ms": statistics.median(transfers_ms),
        "sequences_per_s": 1000 * batch / median,
        "share_of_bound": bound / median if bound else None,
        "difference": difference,
        "correct": difference <= ALLOWED[variant.dtype],
        "peak_memory_bytes": int(torch.cuda.max_memory_allocated()) if on_gpu else None,
        "state": read_state(),
    }


def lengths(count: int, longest: int) -> np.ndarray:
    """Tokens per text as in short reviews: log-normal, median 22, nine of ten between 8 and 60."""
    drawn = np.random.default_rng(0).lognormal(np.log(22), 0.6, count)
    return np.clip(drawn, 4, longest).astype(int)


def realistic(
    torch: Any, model: Any, eager: Any, variant: Variant, size_name: str, scope: Scope
) -> dict[str, Any]:
    """All texts of realistic lengths: `model` with neighbours in length together and tokens in steps of 32,
    eager fp32 padded to the longest that the model takes. Rounds alternate; the ratio has its interval."""
    found = np.sort(lengths(scope.texts, scope.longest))
    rounded = np.minimum(-(-found // BUCKET) * BUCKET, scope.longest)

    def batches(widths: np.ndarray) -> list[Any]:
        made = []
        for first in range(0, len(found), 32):
            ids = np.zeros((len(found[first : first + 32]), int(widths[first : first + 32].max())), np.int64)
            mask = np.zeros_like(ids)
            for row, length in enumerate(found[first : first + 32]):
                ids[row, :length], mask[row, :length] = 7, 1
            made.append(
                {
                    n: torch.from_numpy(a).to(scope.device)
                    for n, a in (("input_ids", ids), ("attention_mask", mask))
                }
            )
        return made

    ours, theirs = batches(rounded), batches(np.full_like(found, scope.longest))

    def over(runs: Any, parts: list[Any]) -> Callable[[], None]:
        return lambda: [runs(**part).logits for part in parts] and None

    slow, fast = over(eager, theirs), over(model, ours)
    slow(), fast(), fast()
    a, b = [], []
    for _ in range(5):
        a.append(host_times(torch, slow, 1, scope.device))
        b.append(host_times(torch, fast, 1, scope.device))
    ratio = ratio_interval([a], [b])
    return {
        "model": size_name,
        "variant": variant.name,
        "texts": len(found),
        "sequences_per_s": 1000 * len(found) / statistics.median(x for [x] in b),
        "eager_sequences_per_s": 1000 * len(found) / statistics.median(x for [x] in a),
        "times_eager_fp32": {"value": ratio.value, "low": ratio.low, "high": ratio.high},
    }


def table(result: dict[str, Any]) -> str:
    """All three parts as Markdown tables, and below them what was skipped and why."""
    lines = [
        "| model | variant | batch x tokens | ms (host) | ms (GPU) | ms with transfers | sequences/s "
        "| roofline | difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in result["rows"]:
        share = "not measured" if r["share_of_bound"] is None else f"{r['share_of_bound']:.0%}"
        wrong = "" if r["correct"] else " (too large)"
        lines.append(
            f"| {r['model']} | {r['variant']} | {r['batch']} x {r['tokens']} | {r['median_host_ms']:.3f} "
            f"| {r['median_gpu_ms']:.3f} | {r['median_transfers_ms']:.3f} | {r['sequences_per_s']:,.0f} "
            f"| {share} | {r['difference']:.2%}{wrong} |"
        )
    if result["realistic"]:
        lines += ["", "| realistic lengths | variant | sequences/s | times eager fp32 padded [95%] |"]
        lines.append("| --- | --- | --- | --- |")
        for r in result["realistic"]:
            x = r["times_eager_fp32"]
            lines.append(
                f"| {r['model']} | {r['variant']} | {r['sequences_per_s']:,.0f} "
                f"| {x['value']:.1f} [{x['low']:.1f}, {x['high']:.1f}] |"
            )
    if result["served"]:
        lines += ["", "| shared checkpoint, served by optkit | accuracy | same answers | sentences/s |"]
        lines.append("| --- | --- | --- | --- |")
        for r in result["served"]:
            lines.append(
                f"| {r['name']} | {r['accuracy']:.4f} | {r['agreement']:.1%} | {r['sentences_per_s']:,.0f} |"
            )
    lines += ["", *(f"- skipped: {s['what']}: {s['reason']}" for s in result["skipped"])]
    return "\n".join(lines) + "\n"


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def run(torch: Any, gpu: Gpu, scope: Scope) -> dict[str, Any]:
    begun = time.monotonic()

    def left() -> float:
        return BUDGET_S - (time.monotonic() - begun)

    rows: list[dict[str, Any]] = []
    real: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    peak = measure_peaks(torch, scope.device, scope.side, scope.block)
    with torch.inference_mode():
        for size_name, size in scope.sizes:
            reference = build(torch, VARIANTS[0], size, scope.device)
            for variant in VARIANTS:
                what = f"{size_name}, {variant.name}"
                # A third of the time is kept for the checkpoint.
                reason = reason_to_skip(variant, gpu, is_installed, left() - BUDGET_S / 3)
                if reason is None and variant.compiled and scope.device != "cuda":
                    reason = "CUDA graphs need a GPU"
                if reason is None:
                    try:
                        model = build(torch, variant, size, scope.device)
                        rows += [
                            one_row(torch, model, reference, variant, (size_name, size), s, peak, scope)
                            for s in scope.shapes
                        ]
                        if size_name == scope.sizes[0][0] and variant is not VARIANTS[0]:
                            real.append(realistic(torch, model, reference, variant, size_name, scope))
                    except Exception as error:  # one variant that fails must not cost the others
                        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                if reason is not None:
                    skipped.append({"what": what, "reason": reason})
                    print(f"skipped {what}: {reason}", file=sys.stderr)
    served, missing = served_part(gpu, scope, left)
    return {
        "gpu": gpu.record(),
        "environment": describe(),
        "torch": torch.__version__,
        "peaks": peak.to_dict(),
        "rows": rows,
        "realistic": real,
        "served": served,
        "skipped": skipped + missing,
        "seconds": round(time.monotonic() - begun, 1),
    }


def served_part(
    gpu: Gpu, scope: Scope, left: Callable[[], float]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """The shared checkpoint every way that this machine has; a reason where it is not here."""
    checkpoint, data = SHARED / "checkpoints" / "minilm-l6-sst2", SHARED / "data" / "sst2"
    if not checkpoint.exists():
        return [], [{"what": "accuracy", "reason": "the shared checkpoint is not beside this project"}]
    plain: Chain = [("export-onnx", {"attention": "plain"})]
    chains: list[Chain] = (
        gpu_chains(gpu)
        if scope.device == "cuda"
        else [
            [("serve-torch", {"dtype": "bf16"})],
            [*plain, ("cast-fp16", {}), ("serve-onnx-runtime", {"provider": "cpu"})],
        ]
    )
    return served_rows(checkpoint, data, chains, scope.sentences, left, scope.device)


def write(result: dict[str, Any], folder: Path) -> Path:
    """The JSON and beside it the table; gives the JSON's path."""
    name = re.sub(r"[^a-z0-9]+", "-", str(result["gpu"]["name"]).lower()).strip("-")
    file = folder / f"gpu-{name}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(table(result), encoding="utf-8")
    return file


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Everything that can run on this machine's GPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny shapes: to try the script")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder for the results")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cpu" and not (chosen.quick and chosen.out != RESULTS):
        parser.error("--device cpu only tries the script: give --quick and --out FOLDER")
    if chosen.device == "cpu":
        gpu = Gpu("cpu", "0.0", 0, "none", None)
    else:
        try:
            gpu = probe()
        except OptkitError as error:
            print(f"no GPU: {error}", file=sys.stderr)
            return NO_GPU
    import torch

    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("no GPU: this torch has no CUDA, or cannot use the driver.", file=sys.stderr)
        return NO_GPU
    result = run(torch, gpu, replace(QUICK, device=chosen.device) if chosen.quick else Scope())
    if not result["rows"]:
        print("error: no row could be measured.", file=sys.stderr)
        return 1
    print(f"{write(result, chosen.out)}\n{table(result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
