"""Models with two towers, one that reads texts and one that reads images, as one `Session`.

A row of `infer` holds texts, an image, or an image with texts. What holds one kind alone is answered by its
vectors, an image with texts by how well each of these fits it. Texts beside an image are labels, which come
again with every image: what the text tower makes of them is kept.

An ONNX artifact of such a model holds two graphs, named as Optimum names them. Sources: A. Radford et al.,
"Learning Transferable Visual Models From Natural Language Supervision" (2021); X. Zhai et al., "Sigmoid Loss
for Language Image Pre-Training" (2023).
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from optkit.data.examples import EncodedSet
from optkit.errors import OptkitError
from optkit.runtimes.base import Feeds, Session, TensorSpec

TEXT, IMAGE = "text_model.onnx", "vision_model.onnx"
PIXELS, IDS, MASK = "pixel_values", "input_ids", "attention_mask"
#: Outputs of the text tower: vectors (texts, width), and what makes a logit of a cosine, (texts,) each.
TEXT_OUTPUTS = ("text_embeds", "logit_scale", "logit_bias")
IMAGE_OUTPUTS = ("image_embeds",)
#: Outputs of `infer`: the logit of each label, (images, labels), or a vector of each, (rows, 1, width).
LOGITS, VECTORS = "logits", "vectors"
#: Sets of labels that are kept, and texts that are read at a time.
_KEPT, _AT_ONCE = 32, 64


class Labels(NamedTuple):
    """What the text tower makes of labels: unit vectors (labels, width), scale and bias (labels,) each."""

    vectors: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


class TowersSession(Session):
    """`infer` takes `pixel_values` (rows, images, channels, height, width) with 0 or 1 images, `input_ids`
    (rows, texts, tokens), and, where the text tower takes one, their `attention_mask`."""

    takes_bucket: ClassVar[bool] = False

    @abstractmethod
    def text_tower(self, feeds: Feeds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`TEXT_OUTPUTS` for `input_ids` (texts, tokens) and their mask."""

    @abstractmethod
    def image_tower(self, pixel_values: np.ndarray) -> np.ndarray:
        """Vectors (images, width) for (images, channels, height, width)."""

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        feeds = self.select(feeds)
        pixels, ids = feeds[PIXELS], feeds[IDS]
        rows, images, texts = len(ids), pixels.shape[1], ids.shape[1]
        if bool(images) + bool(texts) == 0 or images > 1:
            raise OptkitError(f"Expected rows of texts or one image, received {images} and {texts} of them.")
        seen = self.image_tower(pixels.reshape(-1, *pixels.shape[2:])) if images else None
        if seen is None:
            flat = {name: x.reshape(-1, x.shape[-1]) for name, x in feeds.items() if name != PIXELS}
            return {VECTORS: self._read(flat)[0].reshape(rows, texts, -1)}
        if not texts:
            return {VECTORS: seen.reshape(rows, images, -1)}
        labels = [self._labels({n: x[row] for n, x in feeds.items() if n != PIXELS}) for row in range(rows)]
        return {
            LOGITS: np.stack([(one.vectors @ x) * one.scale + one.bias for one, x in zip(labels, unit(seen))])
        }

    def _labels(self, feeds: Feeds) -> Labels:
        key = b"".join(x.tobytes() + str(x.shape).encode() for x in feeds.values())
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
        vectors, scale, bias = self._read(feeds)
        labels = Labels(unit(vectors), scale, bias)
        with self._lock:
            self._kept[key] = labels
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return labels

    def _read(self, feeds: Feeds) -> list[np.ndarray]:
        parts = [
            self.text_tower({name: x[start : start + _AT_ONCE] for name, x in feeds.items()})
            for start in range(0, len(feeds[IDS]), _AT_ONCE)
        ]
        return [np.concatenate(outputs) for outputs in zip(*parts)]

    def _specify(self, image: tuple[int | str, ...], text_inputs: tuple[str, ...], width: int | str) -> None:
        """Say what goes in and comes out: `image` is the shape of one, the towers give `width` numbers."""
        texts = (TensorSpec(name, "int64", ("batch", "texts", "sequence")) for name in text_inputs)
        self.inputs = (TensorSpec(PIXELS, "float32", ("batch", "images", *image)), *texts)
        self.outputs = (
            TensorSpec(LOGITS, "float32", ("batch", "texts")),
            TensorSpec(VECTORS, "float32", ("batch", "rows", width)),
        )
        self._kept: OrderedDict[bytes, Labels] = OrderedDict()
        self._lock = threading.Lock()


def unit(vectors: np.ndarray) -> np.ndarray:
    """`vectors` (..., width), each divided by its length."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def rows_of(samples: EncodedSet) -> dict[str, EncodedSet]:
    """Graph → what it reads of `samples`: different texts, one to a row, and images; {} for other models."""
    if PIXELS not in samples.arrays or IDS not in samples.arrays:
        return {}
    names = [name for name in (IDS, MASK) if name in samples.arrays]
    texts = [row for block in zip(*(samples.arrays[n] for n in names)) for row in zip(*block)]
    different = list({b"".join(part.tobytes() for part in text): text for text in texts}.values())
    read = {name: [text[i] for text in different] for i, name in enumerate(names)}
    images = [image for block in samples.arrays[PIXELS] for image in block]
    return {TEXT: EncodedSet(read, samples.pad), IMAGE: EncodedSet({PIXELS: images}, {})}
