"""Samples → what a report says of them: percentiles with intervals, the ratio to the baseline, padding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from optkit.benchmarking.batches import ALL_EXAMPLES, data_batches, padding_share, parts_of
from optkit.benchmarking.latency import speedup
from optkit.benchmarking.plan import Shape
from optkit.benchmarking.statistics import design_effect, percentile
from optkit.benchmarking.timed_process import Measured
from optkit.data.examples import EncodedSet
from optkit.report.interval import Interval
from optkit.report.model import Latency

#: Batches in which the whole split is answered: examples, and token slots.
ANSWERED_AT_ONCE, TOKEN_BUDGET = 32, 4096

#: Batch and tokens of fixed shapes → the least milliseconds that the machine's peaks allow there.
Bounds = Mapping[tuple[int, int | str], float]


def padding(encoded: EncodedSet) -> dict[str, float] | None:
    """The share of token slots that is padding where the whole set is answered: `by_length`, in the batches
    that `infer_all` and `optkit.load` build, and `as_it_comes`, in equal batches of the data's own order.

    None for inputs of one size, such as images.
    """
    if not encoded.ragged:
        return None
    in_order = np.split(np.arange(len(encoded)), range(ANSWERED_AT_ONCE, len(encoded), ANSWERED_AT_ONCE))
    by_length = encoded.batches(ANSWERED_AT_ONCE, TOKEN_BUDGET)
    shares = {"by_length": by_length, "as_it_comes": in_order}
    return {name: round(padding_share(encoded.lengths, parts), 4) for name, parts in shares.items()}


def latencies(
    measured: Measured, first: Measured | None, encoded: EncodedSet, bounds: Bounds | None = None
) -> list[Latency]:
    """Samples per shape of `encoded` with their percentiles, and the ratio to `first` measured beside it."""
    times = []
    for shape, draws in measured.samples.items():
        flat = [[x for visit in draw for x in visit] for draw in draws if draw]
        if not flat:
            continue
        every = np.concatenate(flat)
        visits = [visit for draw in draws for visit in draw]
        p50, p90, p99 = (_interval(every, visits, q) for q in (50, 90, 99))
        batch = min(len(encoded), ALL_EXAMPLES) if shape.tokens == "all" else shape.batch
        answered = _answered(encoded, shape, batch)
        bound = (bounds or {}).get((shape.batch, shape.tokens))
        times.append(
            Latency(
                batch,
                shape.tokens,
                p50.value,
                p90.value,
                p99.value,
                [[round(x, 4) for x in draw] for draw in flat],
                _ratio(first, measured, shape),
                None if bound is None else round(bound / p50.value, 4),
                per_second=round(
                    answered * 1000 / (float(every.mean()) if not shape.fixed else p50.value), 2
                ),
                p50=p50,
                p90=p90,
                p99=p99,
                padding=_padding(encoded, shape, measured.offline_batch),
            )
        )
    return times


def _answered(encoded: EncodedSet, shape: Shape, batch: int) -> float:
    """Examples in one sample, on average: the last batch of a pass over the data may be smaller."""
    if shape.tokens not in ("data", "text"):
        return batch
    return float(np.mean([len(part) for part in data_batches(encoded.lengths, shape.batch)]))


def _padding(encoded: EncodedSet, shape: Shape, offline_batch: int | None) -> float | None:
    """The share of padding at a shape of the data's own lengths; None at a fixed one."""
    if isinstance(shape.tokens, int) or not encoded.ragged:
        return None
    parts = parts_of(shape.tokens, encoded.lengths, shape.batch, offline_batch or 1)
    return round(padding_share(encoded.lengths, parts), 4)


def _interval(samples: np.ndarray, visits: list[list[float]], q: float) -> Interval:
    return percentile(samples, q, design_effect(visits, q))


def _ratio(first: Measured | None, measured: Measured, shape: Shape) -> Interval | None:
    """None for the baseline itself, and where one of the two has no whole round at this shape."""
    if first is None or first.error or measured.error:
        return None
    return speedup(first, measured, shape)
