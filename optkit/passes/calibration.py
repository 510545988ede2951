"""Ranges of activations from real data, for static quantization.

One pass finds minimum and maximum, a second one fills histograms; batches hold texts of one length,
so that padding never enters a range, and nothing but the histograms is kept in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optkit.data.examples import EncodedSet
from optkit.errors import DataError, PassError
from optkit.passes import graph
from optkit.runtimes import kv_cache

if TYPE_CHECKING:
    import onnx


BINS = 4096
METHODS = ("min-max", "percentile", "entropy", "mse")
Range = tuple[float, float]


def activation_ranges(
    model: onnx.ModelProto,
    tensors: list[str],
    samples: EncodedSet,
    method: str,
    percentile: float,
    progress: Callable[[str, float | None], None],
) -> dict[str, Range]:
    """Tensor name → (low, high), with 0 inside, over all `samples`.

    `percentile` (for example 99.99) is the share of values kept by method "percentile". Raises
    PassError where an activation is NaN or infinite, DataError where there are no samples.
    """
    if len(samples) == 0:
        raise DataError("Static quantization needs examples to calibrate on, received none.")
    batches = list(unpadded(samples))
    with Probe(model, tensors) as run:
        extremes: dict[str, Range] = {}
        for i, indices in enumerate(batches):
            progress("calibrating: ranges", i / len(batches) / (1 if method == "min-max" else 2))
            for name, value in run(samples.batch(indices)).items():
                low, high = float(value.min()), float(value.max())
                if not np.isfinite([low, high]).all():
                    raise PassError(
                        f"The activation {name!r} is NaN or infinite on calibration data.",
                        hint="Check the checkpoint's outputs on the same texts.",
                    )
                old = extremes.get(name, (0.0, 0.0))
                extremes[name] = (min(old[0], low), max(old[1], high))
        if method == "min-max":
            return extremes
        counts = {name: np.zeros(BINS, dtype=np.int64) for name in extremes}
        for i, indices in enumerate(batches):
            progress("calibrating: histograms", 0.5 + i / len(batches) / 2)
            for name, value in run(samples.batch(indices)).items():
                counts[name] += np.histogram(value, bins=BINS, range=extremes[name])[0]
    edges = {name: np.linspace(*extremes[name], BINS + 1) for name in extremes}
    if method == "percentile":
        return {name: _percentile(counts[name], edges[name], percentile) for name in extremes}
    find_range = _entropy if method == "entropy" else _mse
    return {name: find_range(counts[name], edges[name]) for name in extremes}


def unpadded(samples: EncodedSet) -> Iterator[np.ndarray]:
    """Batches of at most 16 examples of exactly one length, or of images of one size."""
    if not samples.ragged:
        yield from samples.batches(16)
        return
    lengths = samples.lengths
    for length in np.unique(lengths):
        same = np.flatnonzero(lengths == length)
        for start in range(0, len(same), 16):
            yield same[start : start + 16]


def _percentile(counts: np.ndarray, edges: np.ndarray, percentile: float) -> Range:
    """Cut (100 - percentile) / 2 percent of the values off each side."""
    share = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    cut = (100.0 - percentile) / 200.0
    low, high = np.interp([cut, 1 - cut], share, edges)
    return min(float(low), 0.0), max(float(high), 0.0)


def _entropy(counts: np.ndarray, edges: np.ndarray) -> Range:
    """The threshold on |x| with the least KL divergence between the values and their 8-bit form.

    Source: S. Migacz, "8-bit inference with TensorRT" (GTC 2017): 128 levels, outliers in the last bin.
    """
    levels, bins = 128, 2048
    bound = max(abs(edges[0]), abs(edges[-1]))
    centres = np.abs((edges[:-1] + edges[1:]) / 2)
    folded = np.histogram(centres, bins=bins, range=(0, bound), weights=counts)[0]
    best, threshold = np.inf, bound
    for cutoff in range(levels, bins + 1, 16):
        seen = folded[:cutoff]
        reference = seen.copy()
        reference[-1] += folded[cutoff:].sum()
        level = np.arange(cutoff) * levels // cutoff
        filled = np.bincount(level, weights=seen > 0, minlength=levels)
        mean = np.bincount(level, weights=seen, minlength=levels) / np.maximum(filled, 1)
        quantized = np.where(seen > 0, mean[level], 0.0)
        divergence = _kl(reference, quantized)
        if divergence < best:
            best, threshold = divergence, bound * cutoff / bins
    return max(-threshold, float(edges[0])), min(threshold, float(edges[-1]))


def _mse(counts: np.ndarray, edges: np.ndarray) -> Range:
    """The share of (lowest, highest) with the least mean squared error of rounding and cutting."""
    centres, low, high = (edges[:-1] + edges[1:]) / 2, float(edges[0]), float(edges[-1])
    best, bounds = np.inf, (low, high)
    for share in np.linspace(0.05, 1.0, 96):
        bottom, step = low * share, max((high - low) * share / 255, 1e-12)
        level = np.clip(np.rint((centres - bottom) / step), 0, 255)
        error = float(np.sum(counts * (level * step + bottom - centres) ** 2))
        if error < best:
            best, bounds = error, (bottom, high * float(share))
    return float(bounds[0]), float(bounds[1])


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    """KL divergence of two histograms, smoothed so that an empty bin of `q` costs much, not infinity."""
    p, q = p / p.sum(), q / max(q.sum(), 1e-12)
    there = p > 0
    return float(np.sum(p[there] * np.log(p[there] / np.maximum(q[there], 1e-9))))


class Probe:
    """A session on the graph that also returns the named activations. A context manager."""

    def __init__(self, model: onnx.ModelProto, tensors: list[str]) -> None:
        self._model, self._tensors = model, tensors

    def __enter__(self) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
        import onnx
        import onnxruntime

        copy = onnx.ModelProto()
        copy.CopyFrom(self._model)
        known = {o.name for o in copy.graph.output}
        copy.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in self._tensors if name not in known
        )
        self._folder = tempfile.TemporaryDirectory(prefix="optkit-calibration-")
        graph.save_graph(copy, Path(self._folder.name))
        session = onnxruntime.InferenceSession(
            str(Path(self._folder.name) / graph.MODEL_FILE), providers=["CPUExecutionProvider"]
        )
        inputs = session.get_inputs()

        def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            values = session.run(self._tensors, kv_cache.selected(feeds, inputs))
            return dict(zip(self._tensors, values))

        return run

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()
