"""What a caller may ask of vectors: another prompt, fewer dimensions, length 1, fewer bits.

Each is what `SentenceTransformer.encode` and `quantize_embeddings` do, in their order: the prompt goes before
the text, the vector is cut, then normalised, then quantized. Source: sentence-transformers 6.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optkit.core.quantities import COUNT
from optkit.errors import DataError, RecipeError, did_you_mean
from optkit.models.sentence_folder import Pooling

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


class Prompted(str):
    """A text with its prompt before it: the default one is not put there again."""


@dataclass(frozen=True)
class VectorOptions:
    """`prompt` stands above `prompt_name`; `truncate_dim` cuts without normalising; `ranges` (2, width), or
    a file of them, are the least and the greatest of each dimension, for int8 and uint8."""

    prompt_name: str | None = None
    prompt: str | None = None
    truncate_dim: int | None = None
    normalize: bool = False
    precision: str = "float32"
    ranges: Any = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise RecipeError(
                f"Expected a precision among {', '.join(PRECISIONS)}, received {self.precision!r}.",
                hint=did_you_mean(self.precision, PRECISIONS),
            )
        if self.truncate_dim is not None:
            COUNT.check(self.truncate_dim, "truncate_dim")
        if self.ranges is not None and not self.precision.endswith("int8"):
            raise RecipeError(f"Expected no ranges for {self.precision}: int8 and uint8 alone have them.")
        if isinstance(self.ranges, str | Path):
            object.__setattr__(self, "ranges", read_ranges(self.ranges))

    def texts(self, texts: Sequence[Any], pooling: Pooling) -> list[Any]:
        """`texts` with the prompt that is asked for. Raises RecipeError for a name that is none."""
        if self.prompt is None and self.prompt_name is None:
            return list(texts)
        prompt = pooling.prompts.get(self.prompt_name or "") if self.prompt is None else self.prompt
        if prompt is None:
            raise RecipeError(
                f"Expected a prompt name among {', '.join(pooling.prompts)}, received {self.prompt_name!r}.",
                hint=did_you_mean(str(self.prompt_name), pooling.prompts),
            )
        if prompt and not pooling.include_prompt:
            raise RecipeError(
                "This model's pooling leaves a prompt's tokens out (include_prompt), which optkit does not.",
                hint="Serve prompts of this model with sentence-transformers.",
            )
        return [Prompted(prompt + text) if isinstance(text, str) else text for text in texts]

    def vectors(self, vectors: Sequence[np.ndarray]) -> list[np.ndarray]:
        """float32 vectors (width,), as they are asked for."""
        if not vectors:
            return []
        array = np.stack(list(vectors))[:, : self.truncate_dim]
        if self.normalize:
            array = unit(array)
        return list(quantize(array, self.precision, self.ranges))


def quantize(vectors: np.ndarray, precision: str, ranges: np.ndarray | None = None) -> np.ndarray:
    """float32 `vectors` (texts, width) in fewer bits, equal to sentence-transformers' `quantize_embeddings`.

    int8 and uint8: 255 steps between the `ranges` (2, width) of each dimension, by default those of these
    vectors, which mean something for these vectors alone. binary and ubinary: a bit for each dimension above
    0, eight to a byte, the last filled with zeros. Raises DataError where ranges do not fit, or would come of
    one vector.

    >>> quantize(np.array([[0.3, -0.2, 0.0, 1.0]]), "ubinary")
    array([[144]], dtype=uint8)
    """
    if precision == "float32":
        return vectors.astype(np.float32)
    if precision in ("binary", "ubinary"):
        packed = np.packbits(vectors > 0, axis=-1)
        return packed if precision == "ubinary" else (packed - 128).astype(np.int8)
    if ranges is None:
        ranges = ranges_of(vectors)
    ranges = np.asarray(ranges, dtype=np.float32)
    if ranges.shape != (2, vectors.shape[1]) or not np.isfinite(ranges).all():
        raise DataError(
            f"Expected ranges of the shape (2, {vectors.shape[1]}), the least and the greatest of each "
            f"dimension, received {ranges.shape}."
        )
    steps = (ranges[1] - ranges[0]) / 255
    steps = np.where(steps == 0, 1, steps)
    values = np.clip(np.floor((vectors - ranges[0]) / steps), 0, 255)
    return values.astype(np.uint8) if precision == "uint8" else (values - 128).astype(np.int8)


def ranges_of(vectors: np.ndarray) -> np.ndarray:
    """The least and the greatest value of each dimension, (2, width). Raises DataError for one vector."""
    if len(vectors) < 2:
        raise DataError(
            f"Expected at least two vectors to take ranges from, received {len(vectors)}.",
            hint="Give the ranges of many: ranges, a file that numpy.save wrote.",
        )
    return np.vstack((vectors.min(axis=0), vectors.max(axis=0)))


def read_ranges(file: str | Path) -> np.ndarray:
    """The ranges that numpy.save wrote into `file`; nothing is unpickled. Raises DataError."""
    try:
        ranges = np.load(file, allow_pickle=False)
        return np.asarray(ranges, dtype=np.float32).reshape(2, -1)
    except (OSError, ValueError, TypeError, EOFError) as reason:
        raise DataError(
            f"Cannot read ranges from {str(file)!r}: {reason}.",
            hint="numpy.save(file, numpy.vstack([vectors.min(axis=0), vectors.max(axis=0)])) writes them.",
        ) from reason


def unit(vectors: np.ndarray) -> np.ndarray:
    """`vectors` (..., width), each divided by its length."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
