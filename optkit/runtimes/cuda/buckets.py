"""Shapes rounded up, so that few CUDA graphs serve all batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np


def rounded(batch: int, tokens: int, most: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The bucket of a shape: the batch to a power of two, the tokens to a multiple, at most `most`.

    >>> rounded(3, 17, (64, 128), 16)
    (4, 32)
    """
    wide = 1 << (max(batch, 1) - 1).bit_length()
    long = -(-tokens // multiple) * multiple
    return max(batch, min(wide, most[0])), max(tokens, min(long, most[1]))


def fill(feeds: Mapping[str, np.ndarray], batch: int, tokens: int) -> dict[str, np.ndarray]:
    """The feeds with zeros up to `tokens` (padding, where a mask hides it) and rows up to `batch`.

    Added rows repeat the first: a row with nothing to attend to would be an odd case for no gain.
    """
    full = {}
    for name, value in feeds.items():
        if value.ndim in (2, 3) and value.shape[1] < tokens:  # a token's box has four numbers
            value = np.pad(value, [(0, 0), (0, tokens - value.shape[1]), (0, 0)][: value.ndim])
        if len(value) < batch:
            value = np.concatenate([value, np.repeat(value[:1], batch - len(value), axis=0)])
        full[name] = value
    return full


def cut(
    outputs: Mapping[str, np.ndarray], per_token: Iterable[str], batch: int, tokens: int
) -> dict[str, np.ndarray]:
    """The outputs without what `fill` added; those in `per_token` have a value for every token."""
    names = set(per_token)
    return {n: v[:batch, :tokens] if n in names else v[:batch] for n, v in outputs.items()}
