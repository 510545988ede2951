"""Shapes rounded up, so that few CUDA graphs serve all batches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from optkit.trt.profiles import Profile


def rounded(batch: int, tokens: int, profile: Profile, multiple: int) -> tuple[int, int]:
    """The bucket of a shape: the batch to a power of two, the tokens to a multiple, inside `profile`.

    >>> rounded(3, 17, Profile((1, 8, 64), (1, 20, 128)), 16)
    (4, 32)
    """
    wide = 1 << (max(batch, 1) - 1).bit_length()
    long = -(-tokens // multiple) * multiple
    return min(wide, profile.batch[2]), min(long, profile.tokens[2])


def fill(feeds: Mapping[str, np.ndarray], batch: int, tokens: int) -> dict[str, np.ndarray]:
    """The feeds with zeros up to `tokens` (padding, where a mask hides it) and rows up to `batch`.

    Added rows repeat the first: a row with nothing to attend to would be an odd case for no gain.
    """
    full = {}
    for name, value in feeds.items():
        if value.ndim == 2 and value.shape[1] < tokens:
            value = np.pad(value, ((0, 0), (0, tokens - value.shape[1])))
        if len(value) < batch:
            value = np.concatenate([value, np.repeat(value[:1], batch - len(value), axis=0)])
        full[name] = value
    return full
