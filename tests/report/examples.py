"""Example reports for the tests of every renderer, and for looking at the page."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from optkit.benchmarking.gate import Gate
from optkit.report.facts import Environment, GateResult
from optkit.report.interval import Interval
from optkit.report.model import Latency, Report, Row

SHAPES = ((1, "data"), (1, 16), (1, 32), (1, 128), (8, 128))
#: Measured once on a 2-core EPYC for MiniLM-L6-H384 and SST-2; see DESIGN.md.
_MODELS = {
    "torch-fp32": ((11.4, 10.1, 12.3, 31.7, 202.0), "torch", "fp32", 90_865_000, 0.8807, 0.0),
    "onnxruntime-fp32": ((5.1, 3.6, 6.0, 22.1, 157.0), "onnxruntime", "fp32", 90_391_000, 0.8807, 0.0),
    "quantize-dynamic": ((2.4, 1.6, 3.1, 9.4, 80.1), "onnxruntime", "int8", 22_913_000, 0.8773, 0.0034),
    "quantize-static": ((3.3, 1.9, 4.6, 15.2, 128.0), "onnxruntime", "int8", 23_051_000, 0.8727, 0.0080),
}
_TEXTS = (
    ("the film is a little too in love with its own cuteness .", "negative"),
    ("a gorgeous , witty , seductive movie .", "positive"),
    (
        "it 's slow -- very , very slow , and yet it holds the eye for all of its two hours and more .",
        "positive",
    ),
    ("not a bad journey at all .", "positive"),
    ("you wo n't like roger , but you will quickly recognize him .", "negative"),
    ("there 's a fine line between the quirky and the merely odd .", "negative"),
    ("manages to be original , even though it rips off many of its ideas .", "positive"),
)


def full_report() -> Report:
    """Four rows as `optkit compress --int8` makes them: two baselines, one passed, one failed."""
    rows = [_measured(name) for name in _MODELS]
    rows[2].verdict, rows[3].verdict = "passed", "failed"
    rows[3].reasons = ["the drop of 0.0080 is more than the 0.0050 allowed"]
    rows[2].flips, rows[3].flips = _flips(9), _flips(24)
    rows[2].notes = {"operators": ["MatMul", "Gemm"], "nodes": 199, "peak_rss_bytes": 412_000_000}
    return Report(
        task="text-classification",
        metric="accuracy",
        data={
            "name": "../shared/data/sst2",
            "split": "validation",
            "held_out": True,
            "examples": 872,
            "sha256": "5f" * 32,
            "truncated": 0,
            "padding": {"by_length": 0.0213, "as_it_comes": 0.4321},
        },
        target="cpu",
        environment=Environment(
            cpu="AMD EPYC 9R14 96-Core Processor",
            cores=2,
            isa=["avx512f", "avx512_vnni"],
            memory_bytes=8_200_000_000,
            system="Linux-6.1.0-x86_64",
            python="3.11.7",
            versions={"torch": "2.13.0", "onnxruntime": "1.24.1", "transformers": "5.23.0"},
            threads=2,
        ),
        rows=rows,
        chosen="quantize-dynamic",
        gate=Gate(0.005, False, 1.5).result(rows[2]),
        recipe={"target": "cpu", "passes": [{"pass": "export-onnx"}, {"pass": "quantize-dynamic"}]},
        source="../shared/checkpoints/minilm-l6-sst2",
        command="optkit compress ../shared/checkpoints/minilm-l6-sst2 --int8 --max-drop 0.005 "
        "--data ../shared/data/sst2 --out models/sst2-int8",
        created="2026-03-14T09:26:53+00:00",
        seconds=164.2,
        peak_rss_bytes=1_910_000_000,
        doubts=[
            "872 examples carry an interval of ±1.8 points: too few to promise a drop below 0.5 points.",
            "Steal time was 3.1% during round 2 of quantize-static; it was measured again.",
        ],
        labels=["negative", "positive"],
    )


def minimal_report() -> Report:
    """One row without a speedup, as `optkit bench MODEL` makes it."""
    report = full_report()
    row = replace(_measured("torch-fp32"), drop=None, load_ms=None)
    row.latency = row.latency[:1]
    return Report(
        task=report.task,
        metric="accuracy",
        data={"examples": 872},
        target="cpu",
        environment=Environment(),
        rows=[row],
    )


def error_report() -> Report:
    """The second row crashed: every figure is NaN or 0, and no latency was taken."""
    report, nan = full_report(), math.nan
    report.rows[2] = replace(
        _measured("quantize-dynamic"),
        size_bytes=0,
        score=nan,
        score_delta=nan,
        agreement=nan,
        latency=[],
        speedup=None,
        peak_rss_bytes=0,
        seconds=nan,
        verdict="error",
        reasons=["the worker ended with signal 9 (killed), probably out of memory"],
        drop=Interval(nan, nan, nan),
        load_ms=None,
    )
    report.rows[3].latency[0] = replace(report.rows[3].latency[0], p50_ms=math.inf, samples_ms=[[], [nan]])
    report.gate = Gate(0.005, False, 1.5).result(None)
    report.chosen = "quantize-static"
    return report


HOSTILE = (
    "<script>alert('x')</script>\"]]>--> | *a* `b` [c](d) @me #1 \u202e\x00\x1b\ud800\n=1+1 ünï ℵ 漢字 "
    + "w" * 120
)


def hostile_report(bad: str = HOSTILE) -> Report:
    """Every string that a user or a file can choose, chosen badly."""
    report = full_report()
    for i, row in enumerate(report.rows):
        row.name, row.runtime, row.precision, row.artifact = f"{bad}{i}", bad, bad, bad
        row.reasons, row.notes = [bad], {bad: [bad]}
        row.flips = [{**f, "text": bad, "reference": bad, "candidate": bad} for f in _flips(3)]
    report.chosen = report.rows[2].name
    report.task = report.metric = report.target = report.source = report.command = report.created = bad
    report.data = {
        "name": bad,
        "split": bad,
        "examples": bad,
        "sha256": bad,
        bad: bad,
    }
    report.environment = Environment(cpu=bad, measured_with={bad: {bad: bad}})
    report.gate = GateResult(conditions=bad, passed=True)
    report.recipe = {bad: bad}
    report.doubts, report.labels = [bad], [bad]
    return report


def many_rows(count: int, spread: float = 1.0) -> Report:
    """`count` rows that lie close together for a small `spread`: the hard case for labels."""
    report, random_ = full_report(), random.Random(count)
    report.rows = [_measured("torch-fp32")]
    for i in range(1, count):
        row = _measured("quantize-static")
        row.name, row.verdict = f"openvino-quantized-variant-{i}", ("step", "passed", "failed")[i % 3]
        row.score_delta += random_.uniform(-0.004, 0.004) * spread
        row.score = 0.8807 + row.score_delta
        row.drop = Interval(-row.score_delta, -row.score_delta - 0.0061, -row.score_delta + 0.0063)
        factor = 1 + random_.random() * spread
        for x in row.latency:
            x.p50_ms *= factor
        report.rows.append(row)
    report.chosen = report.rows[-1].name
    return report


def _measured(name: str) -> Row:
    _, runtime, precision, size, score, drop = _MODELS[name]
    latency = [_latency(name, shape, i) for i, shape in enumerate(SHAPES)]
    first = name == "torch-fp32"
    return Row(
        name=name,
        artifact=f"models/.sst2-int8.work/{name}",
        runtime=runtime,
        precision=precision,
        size_bytes=size,
        score=score,
        score_delta=-drop,
        agreement={0.0: 1.0, 0.0034: 0.9897, 0.0080: 0.9725}[drop],
        latency=latency,
        speedup=latency[0].speedup,
        peak_rss_bytes={"torch": 612_000_000}.get(
            runtime, 271_000_000 if precision == "fp32" else 148_000_000
        ),
        seconds={"torch-fp32": 0.0, "onnxruntime-fp32": 14.3, "quantize-dynamic": 2.2}.get(name, 21.7),
        verdict="baseline" if precision == "fp32" else "step",
        drop=None if first else Interval(drop, drop - 0.0061 * (drop > 0), drop + 0.0063 * (drop > 0)),
        load_ms={"torch": 903.0}.get(runtime, 84.0),
        cold_ms={"torch": 61.0}.get(runtime, 7.5),
        load_rss_bytes={"torch": 540_000_000}.get(runtime, 112_000_000),
        pass_peak_rss_bytes=None if first else 1_240_000_000,
    )


def _latency(name: str, shape: tuple[int, int | str], i: int) -> Latency:
    """Samples like those of a noisy machine: a log-normal body and a few slow calls, per process."""
    middle, source = _MODELS[name][0][i], random.Random(f"{name} {shape}")
    wide = 0.35 if shape[1] == "data" else 0.06
    draws = []
    for _ in range(3):
        shift = source.gauss(0, 0.02)
        slow = [1 + (source.random() < 0.04) * source.random() for _ in range(60)]
        draws.append([round(middle * math.exp(shift + source.gauss(0, wide)) * s, 4) for s in slow])
    flat = sorted(x for draw in draws for x in draw)
    p50, p90, p99 = (flat[int(q * (len(flat) - 1))] for q in (0.5, 0.9, 0.99))
    ratio = _MODELS["torch-fp32"][0][i] / middle
    speedup = None if name == "torch-fp32" else Interval(ratio, ratio * 0.94, ratio * 1.07)
    known = {"p50": Interval(p50, p50 * 0.98, p50 * 1.02), "p99": Interval(p99, p99 * 0.9, math.nan)}
    return Latency(
        *shape, p50, p90, p99, draws, speedup, padding=0.0125 if shape[1] == "data" else None, **known
    )


def _flips(count: int) -> list[dict[str, object]]:
    found = []
    for i in range(count):
        text, reference = _TEXTS[i % len(_TEXTS)]
        other = "positive" if reference == "negative" else "negative"
        before, after = (reference, other) if i % 3 else (other, reference)
        found.append(
            {
                "text": text,
                "reference": reference,
                "baseline": before,
                "candidate": after,
                "baseline_confidence": 0.51 + (i * 37 % 40) / 100,
                "candidate_confidence": 0.5 + (i * 23 % 45) / 100,
            }
        )
    return found
