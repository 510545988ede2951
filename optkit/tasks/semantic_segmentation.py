"""Semantic segmentation: one image → a class for each of its pixels, by SegFormer, DPT, UperNet and others.

The model's logits, coarser than the image, are drawn out to the image's own size, and the largest is the
pixel's class, as `post_process_semantic_segmentation` of transformers' image processors does it.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data import images, masks
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, DataError
from optkit.models.adapted import with_forward
from optkit.models.pixels import PixelEncoder
from optkit.models.processors import SEGMENTERS
from optkit.models.task import Shape
from optkit.tasks import drawings
from optkit.tasks.base import Columns, Field, Labelled, Outputs, Task
from optkit.tasks.images import ImageInputs
from optkit.tasks.label_columns import labels_config, labels_of
from optkit.tasks.labelled import Input

if TYPE_CHECKING:
    import datasets
    import torch


#: The value of pixels that count for nothing.
IGNORED = 255
#: The most classes: ids are bytes.
MOST_CLASSES = 255
#: Pixels of an image that are worked on at a time.
STRIPE = 2**16
#: How many of an image's pixels have to have the same class for two answers to be the same.
SHARE = 0.99


#: How the names of models end that answer with a mask and a class for each of their queries, and those of
#: them whose masks are put together here.
_OF_QUERIES = ("ForUniversalSegmentation", "ForInstanceSegmentation", "ForSegmentation")
_PUT_TOGETHER = ("mask2former", "maskformer")
#: The size at which Mask2Former's processor puts masks together.
_MASK_SIZE = (384, 384)


@dataclass(frozen=True)
class Segmentation:
    """A prediction: `mask`, a class id per pixel (height, width), and `shares`: label → share of them."""

    mask: np.ndarray
    shares: dict[str, float]

    @property
    def label(self) -> list[str]:
        """The largest first."""
        return list(self.shares)

    @property
    def score(self) -> float:
        """The largest class's share."""
        return next(iter(self.shares.values()))

    def png(self) -> str:
        """The mask as a PNG of 8 bits, in base64: a pixel's value is its class."""
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(self.mask).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()


@dataclass
class SemanticSegmentation(ImageInputs, Task):
    """`labels` by index, which is a pixel's value in a mask."""

    name: ClassVar[str] = "semantic-segmentation"
    architectures: ClassVar[tuple[str, ...]] = ("ForSemanticSegmentation", *_OF_QUERIES)
    auto_class: ClassVar[str] = "AutoModelForSemanticSegmentation"
    columns: ClassVar = {"text": images.COLUMNS, "label": masks.COLUMNS}
    parts: ClassVar = {**ImageInputs.parts, "label": "mask"}
    metrics: ClassVar = ("miou", "pixel-accuracy")
    shapes: ClassVar[tuple[str, ...]] = ("1xdata",)
    sameness: ClassVar[str] = "the same class for 99% of an image's pixels"
    labels: list[str]
    metric: str
    encoder: PixelEncoder
    _counted: dict[tuple[int, int], tuple[Any, Any, np.ndarray]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> SemanticSegmentation:
        config, encoder = artifact.config, cls.encoder_of(artifact.path, SEGMENTERS, "masks")
        labels = labels_of(config) or [f"LABEL_{i}" for i in range(int(config.get("num_labels") or 2))]
        if len(labels) > MOST_CLASSES:
            raise CheckpointError(f"Expected at most {MOST_CLASSES} classes, received {len(labels)}.")
        return cls(labels, cls.checked_metric(metric), encoder)

    @classmethod
    def check_architecture(cls, config: dict[str, Any], architecture: str) -> None:
        if architecture.endswith(_OF_QUERIES) and config.get("model_type") not in _PUT_TOGETHER:
            raise CheckpointError(
                f"{architecture} answers with a mask and a class for each query, which optkit puts together "
                f"for {', '.join(_PUT_TOGETHER)} alone.",
                hint="Take one of these, or a model whose name ends with ForSemanticSegmentation.",
            )

    @classmethod
    def auto_class_of(cls, config: dict[str, Any]) -> str:
        of_queries = config.get("model_type") in _PUT_TOGETHER
        return "AutoModelForUniversalSegmentation" if of_queries else cls.auto_class

    @classmethod
    def adapted(cls, model: torch.nn.Module) -> torch.nn.Module:
        """Masks and classes of queries become logits, as `post_process_semantic_segmentation` makes them."""
        if model.config.model_type not in _PUT_TOGETHER:
            return model
        import torch
        from transformers.modeling_outputs import SemanticSegmenterOutput

        plain = type(model)

        def forward(
            self: torch.nn.Module, pixel_values: torch.Tensor, **more: object
        ) -> SemanticSegmenterOutput:
            answer = plain.forward(self, pixel_values=pixel_values, **more)
            masks, kinds = answer.masks_queries_logits, answer.class_queries_logits
            if self.config.model_type == "mask2former":
                masks = torch.nn.functional.interpolate(masks, _MASK_SIZE, mode="bilinear")
            kinds = kinds.softmax(dim=-1)[..., :-1]
            return SemanticSegmenterOutput(logits=torch.einsum("bqc,bqhw->bchw", kinds, masks.sigmoid()))

        return with_forward(model, forward)

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {"logits": ("batch", model.config.num_labels, "height", "width")}

    def encode(self, inputs: Sequence[Any]) -> EncodedSet:
        """Images as `PixelEncoder` takes them, each with its own size for `decode`."""
        return self.sized(inputs, len(self.labels))

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        name, label = (self.column(rows.column_names, part, columns) for part in ("text", "label"))
        inputs = list(rows[name])
        encoded = self.encode(inputs)
        sizes = encoded.windows.carried["size"] if encoded.windows else []
        references = [self._mask(item, sizes[row], row) for row, item in enumerate(rows[label])]
        return Labelled(encoded, references, self.named(inputs), inputs, columns=Columns(name, None, label))

    def _mask(self, item: Any, size: np.ndarray, row: int) -> np.ndarray:
        """The classes of an image's pixels, bytes. DataError names the row."""
        mask = masks.opened(item, row)
        if self.encoder.reduces_labels:  # 0 becomes `IGNORED`, which stays
            mask = np.where((mask == 0) | (mask == IGNORED), IGNORED, mask - 1).astype(np.uint8)
        if mask.shape != tuple(size):
            raise DataError(
                f"Expected a mask of the image's size, {size[0]} x {size[1]} pixels (height x width), in row "
                f"{row}, received {mask.shape[0]} x {mask.shape[1]}.",
                hint="Masks are of the size of the image as it is, after it was turned as its EXIF says.",
            )
        if (wrong := mask[(mask >= len(self.labels)) & (mask != IGNORED)]).size:
            raise DataError(
                f"Expected classes 0 to {len(self.labels) - 1}, and {IGNORED} for none, in the mask of row "
                f"{row}, received {int(wrong.max())}.",
                hint="Give the data that the model was made for, or write its classes anew.",
            )
        return mask

    def answers(self, outputs: Outputs) -> np.ndarray:
        """For each image the class of each of its pixels, (height, width), bytes, in an object array."""
        class_maps = np.empty(len(outputs["logits"]), dtype=object)
        for i, (logits, size) in enumerate(zip(outputs["logits"], outputs["size"])):
            class_maps[i] = largest(logits, (int(size[0]), int(size[1])))
        return class_maps

    def decode(self, outputs: Outputs) -> list[Segmentation]:
        decoded = []
        for mask in self.answers(outputs):
            kinds = len(self.labels)
            counts = sum(
                np.bincount(mask[rows].reshape(-1), minlength=kinds) for rows in _stripes(*mask.shape)
            )
            counts = counts / mask.size
            order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
            decoded.append(Segmentation(mask, {self.labels[i]: float(counts[i]) for i in order}))
        return decoded

    def score(self, answers: np.ndarray, references: Sequence[Any]) -> float:
        """miou: the mean over classes of intersection over union, of all pixels together; a class that is
        neither there nor found does not count. pixel-accuracy: the share of pixels that are right."""
        counts = np.sum([self._count(*pair) for pair in zip(answers, references)], axis=0, dtype=np.int64)
        right = np.diag(counts).astype(float)
        if self.metric == "pixel-accuracy":
            return float(right.sum() / counts.sum()) if counts.sum() else float("nan")
        union = counts.sum(axis=0) + counts.sum(axis=1) - right
        return float((right[union > 0] / union[union > 0]).mean()) if union.any() else float("nan")

    def _count(self, answer: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Pixels of each class (rows) that were taken for each (columns); asked again by every resample."""
        key = id(answer), id(reference)
        if key not in self._counted or self._counted[key][0] is not answer:
            if len(self._counted) > 20_000:
                self._counted.clear()
            kinds, table = len(self.labels), np.zeros(len(self.labels) ** 2, dtype=np.int64)
            for rows in _stripes(*answer.shape):
                counts = reference[rows] != IGNORED
                places = reference[rows][counts].astype(np.int64) * kinds + answer[rows][counts]
                table += np.bincount(places, minlength=kinds**2)
            self._counted[key] = answer, reference, table.reshape(kinds, kinds)
        return self._counted[key][2]

    def same(self, outputs: Outputs, others: Outputs) -> np.ndarray:
        pairs = zip(self.answers(outputs), self.answers(others), strict=True)
        return np.array([(a == b).mean() >= SHARE for a, b in pairs], dtype=bool)

    def agreement(self, answers: np.ndarray, others: np.ndarray) -> float:
        """The mean share of an image's pixels that have the same class."""
        shares = [float((a == b).mean()) for a, b in zip(answers, others, strict=True)]
        return float(np.mean(shares)) if shares else 1.0

    def gives(self) -> tuple[Field, ...]:
        return Field("mask"), Field("shares")

    def fields(self, answer: Segmentation) -> tuple[Any, ...]:
        return answer.png(), json.dumps(answer.shares, ensure_ascii=False)

    def describe(self, answer: Segmentation) -> dict[str, Any]:
        """The mask as a PNG of class ids in base64, and the share of each class that is there."""
        return {"mask": answer.png(), "shares": answer.shares}

    def alike(self, answer: Segmentation, other: Segmentation) -> float:
        """The share of pixels with the same class; 0 for masks of other sizes."""
        same = answer.mask.shape == other.mask.shape
        return float((answer.mask == other.mask).mean()) if same else 0.0

    def line(self, answer: Segmentation) -> str:
        shares = ", ".join(f"{label} {share:.1%}" for label, share in answer.shares.items())
        return f"{answer.mask.shape[1]} x {answer.mask.shape[0]}: {shares}".replace("\n", "\\n")

    def name_of(self, reference: np.ndarray) -> None:
        """None: labels say nothing of where the classes are."""

    def drawn(
        self, item: Input, reference: np.ndarray, before: Segmentation, after: Segmentation
    ) -> dict[str, Json]:
        """The true classes, the baseline's, the other model's, and where these two differ."""
        named = {"labelled": reference, "baseline": before.mask, "this model": after.mask}
        kinds = {int(i) for mask in named.values() for i in np.unique(mask)} - {IGNORED}
        return {"pictures": drawings.masks(item, named), "key": drawings.key(kinds, self.labels)}

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        name = columns.label or next((n for n in cls.columns["label"] if n in rows.column_names), None)
        return name in rows.column_names and masks.is_mask(rows[0][name])

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        """As many classes as the masks have, by the names of the data (`labels.json`), else by number."""
        name = cls.column(rows.column_names, "label", columns)
        highest = 0
        for row, item in enumerate(rows[name]):
            values = masks.opened(item, row)
            highest = max(highest, int(values[values != IGNORED].max(initial=0)))
        return labels_config(masks.names(rows, name, highest) or list(map(str, range(highest + 1))))

    @classmethod
    def for_training(
        cls, source: Artifact, config: dict[str, Any], max_length: int | None
    ) -> SemanticSegmentation:
        task = cls.from_artifact(source)
        if source.config.get("model_type") in _PUT_TOGETHER:
            raise CheckpointError(
                f"Expected a model that learns a class per pixel, received a {source.config['model_type']}, "
                "which learns a mask per query.",
                hint="Fine-tune it with transformers; optkit compresses what comes out.",
            )
        if task.encoder.reduces_labels:
            raise CheckpointError(
                "Expected masks whose classes begin at 0 to train on, and the image processor takes 1 from "
                "each (do_reduce_labels).",
                hint="Set do_reduce_labels to false in preprocessor_config.json.",
            )
        task.labels = list(config["id2label"].values())
        return task

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        """Masks of the size that the model is fed, by the nearest pixel."""
        from PIL import Image

        targets = []
        for mask, pixels in zip(labelled.references, labelled.encoded.arrays["pixel_values"]):
            resized = Image.fromarray(mask).resize(pixels.shape[:0:-1], resample=Image.Resampling.NEAREST)
            targets.append(np.asarray(resized, dtype=np.int64))
        return {"labels": targets}

    def reduced(self, logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor) -> torch.Tensor:
        return logits[0] if isinstance(logits, tuple) else logits


def largest(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(classes, height, width) → the class of the largest at each pixel of an image of this `size`, bytes.

    In between, values are drawn out bilinearly, as by torch's `interpolate` with corners not aligned. A
    stripe of the image is made at a time: 150 classes of 20 megapixels would take 12 GB.
    """
    (top, bottom, y), (left, right, x) = (_taps(*pair) for pair in zip(logits.shape[1:], size))
    y = y[:, None]
    answer = np.zeros(size, dtype=np.uint8)
    for rows in _stripes(*size):
        first, part = top[rows.start], answer[rows]
        band = logits[:, first : bottom[rows].max() + 1].astype(np.float64)
        best = np.full(part.shape, -np.inf)
        for kind in _able(band):
            wide = band[kind][:, left] * (1 - x) + band[kind][:, right] * x
            whole = wide[top[rows] - first] * (1 - y[rows])
            whole += wide[bottom[rows] - first] * y[rows]
            part[whole > best] = kind
            np.maximum(best, whole, out=best)
    return answer


def _able(logits: np.ndarray) -> list[int]:
    """The classes that may be the largest somewhere: between four neighbours no value passes the largest of
    them, nor falls below the smallest."""
    edged = np.pad(logits, ((0, 0), (0, 1), (0, 1)), "edge")
    corners = edged[:, :-1, :-1], edged[:, :-1, 1:], edged[:, 1:, :-1], edged[:, 1:, 1:]
    low, high = (reduce(least, corners) for least in (np.minimum, np.maximum))
    slack = 1e-12 * np.abs(logits).max()  # for rounding
    return np.flatnonzero((high + slack >= low.max(axis=0)).any(axis=(1, 2))).tolist()


def _stripes(height: int, width: int) -> Iterator[slice]:
    """Rows of an image, so many at a time that they hold `STRIPE` pixels."""
    step = max(1, STRIPE // width)
    return (slice(start, start + step) for start in range(0, height, step))


def _taps(given: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two places of `given` that each of `wanted` lies between, and how far it is from the first."""
    at = np.maximum((np.arange(wanted) + 0.5) * (given / wanted) - 0.5, 0)
    low = np.minimum(at.astype(np.int64), given - 1)
    return low, np.minimum(low + 1, given - 1), at - low


TASK = SemanticSegmentation
