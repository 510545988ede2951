"""Object detection: one image → boxes in its pixels, each with a label and a score, by DETR and its kin.

Boxes are read off the outputs as `post_process_object_detection` of the checkpoint's own image processor
does it. Images keep the size that the processor gives them: only images of one size share a batch, so that
none is padded, and an answer is that of the image alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data import images
from optkit.data.examples import EncodedSet
from optkit.errors import DataError
from optkit.models.pixels import PixelEncoder
from optkit.models.processors import DETECTORS
from optkit.models.task import Shape
from optkit.tasks import boxes, drawings
from optkit.tasks.average_precision import Matched, match, mean_precision
from optkit.tasks.base import Columns, Field, Labelled, Outputs, Task
from optkit.tasks.images import ImageInputs
from optkit.tasks.label_columns import labels_config, labels_of
from optkit.tasks.label_mapping import label_name, places
from optkit.tasks.labelled import Input

if TYPE_CHECKING:
    import datasets
    import torch
    from transformers.modeling_outputs import ModelOutput


#: `predict` gives boxes whose score is above this, as transformers' pipeline does.
THRESHOLD = 0.5
#: Detections that are scored of processors with a sigmoid: so many, or one per query.
BEST = {"ConditionalDetr": 100, "DeformableDetr": 100, "RTDetr": None}


@dataclass(frozen=True)
class Detection:
    """A `label`, its `score`, and its `box` in pixels of the image: left, top, right, bottom."""

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Detections:
    """A prediction: the `objects` of an image, the surest first."""

    objects: list[Detection]

    @property
    def label(self) -> list[str]:
        return [one.label for one in self.objects]

    @property
    def score(self) -> float:
        """The surest object's; 0 where there is none."""
        return max((one.score for one in self.objects), default=0.0)


@dataclass
class ObjectDetection(ImageInputs, Task):
    """`labels` by index; `queries` is how many boxes the model gives for each image."""

    name: ClassVar[str] = "object-detection"
    architectures: ClassVar[tuple[str, ...]] = ("ForObjectDetection",)
    auto_class: ClassVar[str] = "AutoModelForObjectDetection"
    columns: ClassVar = {"text": images.COLUMNS, "label": ("objects", "annotations")}
    parts: ClassVar = {**ImageInputs.parts, "label": "objects"}
    metrics: ClassVar = ("map", "map@50")
    shapes: ClassVar[tuple[str, ...]] = ("1xdata",)
    sameness: ClassVar[str] = "the same boxes above a score of 0.5, within an IoU of 0.9"
    new_parts: ClassVar[tuple[str, ...]] = (
        *("pooler", "class_embed", "enc_score_head", "denoising_class_embed"),
    )
    labels: list[str]
    queries: int
    metric: str
    encoder: PixelEncoder
    own_labels: bool = False
    _matched: dict[tuple[int, int], tuple[Any, Any, dict[int, Matched]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> ObjectDetection:
        config, encoder = artifact.config, cls.encoder_of(artifact.path, DETECTORS, "boxes")
        queries = config.get("num_queries") or config.get("num_detection_tokens") or 100
        labels = labels_of(config) or [f"LABEL_{i}" for i in range(int(config.get("num_labels") or 91))]
        return cls(labels, int(queries), cls.checked_metric(metric), encoder)

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        config = model.config
        queries = getattr(config, "num_queries", None) or config.num_detection_tokens
        nothing = config.model_type in ("detr", "table-transformer", "yolos")  # a class of its own, the last
        return {
            "logits": ("batch", queries, config.num_labels + nothing),
            "pred_boxes": ("batch", queries, 4),
        }

    def encode(self, inputs: Sequence[Any]) -> EncodedSet:
        """Images as `PixelEncoder` takes them, each with its own size for `decode`."""
        return self.sized(inputs, self.queries)

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        name, label = (self.column(rows.column_names, part, columns) for part in ("text", "label"))
        inputs = list(rows[name])
        parsed = [boxes.objects(value, row) for row, value in enumerate(rows[label])]
        flat = [(row, kind) for row, (_, kinds, _) in enumerate(parsed) for kind in kinds]
        names = boxes.class_names(rows.features.get(label))
        order = iter(places(flat, self.labels, names, self.own_labels) if flat else ())
        encoded = self.encode(inputs)
        sizes = encoded.windows.carried["size"] if encoded.windows else []
        references = []
        for row, (rectangles, kinds, crowds) in enumerate(parsed):
            corners = boxes.corners(rectangles, sizes[row], row)
            at = np.array([next(order) for _ in kinds], dtype=float).reshape(-1, 1)
            references.append(np.concatenate([at, corners, np.reshape(crowds, (-1, 1))], axis=1))
        return Labelled(encoded, references, self.named(inputs), inputs, columns=Columns(name, None, label))

    def answers(self, outputs: Outputs) -> np.ndarray:
        """For each image (n, 6), in an object array: class, score, left, top, right, bottom, surest first."""
        detections, names = np.empty(len(outputs["logits"]), dtype=object), ("logits", "pred_boxes", "size")
        for i, (logits, shares, size) in enumerate(zip(*(outputs[n] for n in names))):
            detections[i] = self._read(logits.astype(np.float64), shares.astype(np.float64), size)
        return detections

    def _read(self, logits: np.ndarray, rectangles: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Source: transformers' `post_process_object_detection` of each image processor."""
        if self.encoder.family in BEST:
            scores = 0.5 * (1.0 + np.tanh(0.5 * logits))
            best = np.argsort(-scores, axis=None, kind="stable")[: BEST[self.encoder.family] or len(logits)]
            query, kind = np.divmod(best, logits.shape[1])
            score = scores[query, kind]
        else:
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            shares = (shares / shares.sum(axis=1, keepdims=True))[:, :-1]
            query = np.argsort(-shares.max(axis=1), kind="stable")
            kind, score = shares.argmax(axis=1)[query], shares.max(axis=1)[query]
        centre, half = rectangles[query, :2], rectangles[query, 2:] / 2
        corners = np.concatenate([centre - half, centre + half], axis=1) * np.tile(size[::-1], 2)
        return np.concatenate([kind[:, None], score[:, None], corners], axis=1)

    def decode(self, outputs: Outputs) -> list[Detections]:
        return [Detections([self._one(row) for row in _sure(rows)]) for rows in self.answers(outputs)]

    def _one(self, row: np.ndarray) -> Detection:
        left, top, right, bottom = (round(float(x), 3) for x in row[2:])
        return Detection(self.labels[int(row[0])], float(row[1]), (left, top, right, bottom))

    def score(self, answers: np.ndarray, references: Sequence[Any]) -> float:
        """Mean average precision over IoUs of 0.5 to 0.95 (map) or at 0.5 (map@50), as COCO has it."""
        matched = [self._match(*pair) for pair in zip(answers, references)]
        return mean_precision(matched, slice(1) if self.metric == "map@50" else slice(None))

    def _match(self, answer: np.ndarray, reference: np.ndarray) -> dict[int, Matched]:
        """Asked again by every resample of a bootstrap, of the same arrays."""
        key = id(answer), id(reference)
        if key not in self._matched or self._matched[key][0] is not answer:
            if len(self._matched) > 100_000:
                self._matched.clear()
            self._matched[key] = answer, reference, match(answer, reference)
        return self._matched[key][2]

    def aligned(self, right: Outputs, others: Outputs) -> Outputs:
        """Each image's queries by those that they are nearest to: RT-DETR orders them by a score, where
        rounding makes neighbours change places."""
        from scipy.optimize import linear_sum_assignment
        from scipy.spatial.distance import cdist

        names = ("logits", "pred_boxes")
        result = {name: list(rows) for name, rows in others.items()}
        for i in range(len(result["logits"])):
            a, b = (np.concatenate([part[name][i] for name in names], axis=1) for part in (right, others))
            if a.shape == b.shape:
                _, order = linear_sum_assignment(cdist(a, b, "cityblock"))
                result |= {n: [*result[n][:i], result[n][i][order], *result[n][i + 1 :]] for n in names}
        return result

    def same(self, outputs: Outputs, others: Outputs) -> np.ndarray:
        return _same(self.answers(outputs), self.answers(others))

    def agreement(self, answers: np.ndarray, others: np.ndarray) -> float:
        """Share of images with the same boxes above a score of 0.5."""
        return float(_same(answers, others).mean()) if len(answers) else 1.0

    def gives(self) -> tuple[Field, ...]:
        """How many objects an image has varies, so they are one JSON list."""
        return (Field("objects"),)

    def fields(self, answer: Detections) -> tuple[Any, ...]:
        return (json.dumps(self.describe(answer)["objects"], ensure_ascii=False),)

    def describe(self, answer: Detections) -> dict[str, Any]:
        objects = [{"label": x.label, "score": x.score, "box": list(x.box)} for x in answer.objects]
        return {"objects": objects}

    def alike(self, answer: Detections, other: Detections) -> float:
        """1 for the same labels in the same order."""
        return float(answer.label == other.label)

    def line(self, answer: Detections) -> str:
        shown = (f"{x.label} {x.score:.4f} [{', '.join(f'{v:.1f}' for v in x.box)}]" for x in answer.objects)
        return "; ".join(shown).replace("\n", "\\n") or "nothing"

    def name_of(self, reference: np.ndarray) -> None:
        """None: labels say nothing of where boxes are."""

    def drawn(
        self, item: Input, reference: np.ndarray, before: Detections, after: Detections
    ) -> dict[str, Json]:
        """The boxes to find, the baseline's, the other model's; wide: without a counterpart in the other."""
        image, size = drawings.thumbnail(item)
        old, new = (self._rows(answer) for answer in (before, after))
        panels = {
            "labelled": (reference[:, :5], np.zeros(len(reference), dtype=bool)),
            "baseline": (old[:, [0, 2, 3, 4, 5]], ~_covered(old, new)),
            "this model": (new[:, [0, 2, 3, 4, 5]], ~_covered(new, old)),
        }
        pictures = [
            drawings.picture(caption, drawings.with_boxes(image, size, *drawn))
            for caption, drawn in panels.items()
        ]
        kinds = np.concatenate([boxes[:, 0] for boxes, _ in panels.values()]).astype(int).tolist()
        return {"pictures": pictures, "key": drawings.key(kinds, self.labels)}

    def _rows(self, answer: Detections) -> np.ndarray:
        """As `answers` has them, (n, 6)."""
        rows = [[self.labels.index(one.label), one.score, *one.box] for one in answer.objects]
        return np.array(rows, dtype=float).reshape(-1, 6)

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        return (columns.label or "objects") in rows.column_names and isinstance(
            rows[0][columns.label or "objects"], dict | list
        )

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        name = cls.column(rows.column_names, "label", columns)
        kinds = {k for row, value in enumerate(rows[name]) for k in boxes.objects(value, row)[1]}
        if not kinds:
            raise DataError(f"Expected objects in column {name!r}, received none in {len(rows)} images.")
        labels = sorted({label_name(kind) for kind in kinds})
        return labels_config(boxes.class_names(rows.features.get(name)) or labels)

    @classmethod
    def for_training(
        cls, source: Artifact, config: dict[str, Any], max_length: int | None
    ) -> ObjectDetection:
        task = cls.from_artifact(source)
        task.labels, task.own_labels = list(config["id2label"].values()), True
        return task

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        """Per image (objects, 5): class, and the box as a share of the image: centre, width, height."""
        sizes = labelled.encoded.windows.carried["size"] if labelled.encoded.windows else []
        targets = []
        for reference, size in zip(labelled.references, sizes):
            single = reference[reference[:, 5] == 0]
            corners = single[:, 1:5] / np.tile(size[::-1], 2)
            middle, extent = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
            targets.append(np.concatenate([single[:, :1], middle, extent], axis=1).astype(np.float32))
        return {"labels": targets, "pixel_mask": []}

    def collate(
        self, encoded: EncodedSet, targets: dict[str, list[np.ndarray]], indices: Sequence[int]
    ) -> dict[str, np.ndarray]:
        """Images of one batch are padded to the largest, with a mask, and the boxes are shares of that.

        Before an image's objects stands a row with what shares of height and width it is.
        """
        pixels = encoded.batch(indices)["pixel_values"]
        mask = np.zeros((len(indices), *pixels.shape[2:]), dtype=np.int64)
        labels = np.full((len(indices), 1 + max(len(targets["labels"][i]) for i in indices), 5), -100.0)
        for row, i in enumerate(indices):
            height, width = encoded.arrays["pixel_values"][i].shape[1:]
            mask[row, :height, :width] = 1
            share = np.tile([width / mask.shape[2], height / mask.shape[1]], 2)
            objects = targets["labels"][i]
            labels[row, 0] = [-1, *share]
            labels[row, 1 : 1 + len(objects)] = objects * [1, *share]
        return {"pixel_values": pixels, "pixel_mask": mask, "labels": labels.astype(np.float32)}

    def network(self, source: Artifact, config: dict[str, Any], load: Callable[..., Any]) -> torch.nn.Module:
        """The model with labels as `collate` gives them, in one tensor: the Trainer pads and joins those."""
        import inspect

        model = load(self.auto_class, **config)
        forward = model.forward
        masked = "pixel_mask" in inspect.signature(forward).parameters

        def with_objects(
            pixel_values: torch.Tensor,
            labels: torch.Tensor | None = None,
            pixel_mask: torch.Tensor | None = None,
            **rest: object,
        ) -> ModelOutput | dict[str, torch.Tensor]:
            if masked and pixel_mask is not None:
                rest["pixel_mask"] = pixel_mask
            if labels is None:
                return forward(pixel_values=pixel_values, **rest)
            objects = [rows[rows[:, 0] >= 0] for rows in labels]
            told = [{"class_labels": rows[:, 0].long(), "boxes": rows[:, 1:]} for rows in objects]
            answer = forward(pixel_values=pixel_values, labels=told, **rest)
            return {name: answer[name] for name in ("loss", "logits", "pred_boxes")}

        model.forward = with_objects
        return model

    def reduced(
        self, logits: tuple[torch.Tensor, ...], labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits, boxes), these as shares of the image without its padding."""
        return logits[0], logits[1] / labels[:, :1, 1:]

    def save(self, network: torch.nn.Module, folder: Path) -> None:
        del network.forward  # the model's own again
        super().save(network, folder)


def _sure(rows: np.ndarray) -> np.ndarray:
    return rows[rows[:, 1] > THRESHOLD]


def _same(answers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Per image, whether each box above the threshold has its counterpart in the other answer."""
    return np.array([_covers(_sure(a), _sure(b)) for a, b in zip(answers, others, strict=True)], dtype=bool)


def _covers(a: np.ndarray, b: np.ndarray) -> bool:
    return len(a) == len(b) and bool(_covered(a, b).all())


def _covered(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Per row of `a`, whether it has a counterpart of its own in `b`: the same class, an IoU of 0.9."""
    left, covered = list(b), np.zeros(len(a), dtype=bool)
    for place, row in enumerate(a):
        near = (i for i, x in enumerate(left) if x[0] == row[0] and _iou(x[2:], row[2:]) >= 0.9)
        if (index := next(near, None)) is not None:
            left.pop(index)
            covered[place] = True
    return covered


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    whole = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / whole if whole > 0 else 1.0


TASK = ObjectDetection
