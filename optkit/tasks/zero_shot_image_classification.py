"""Zero-shot image classification: an image and labels that nobody trained → how well each of them fits.

A model of two towers (CLIP, SigLIP) reads the image, and a hypothesis for each label ("This is a photo of a
cat."). Scores are those of transformers' ZeroShotImageClassificationPipeline: the softmax of the logits over
the labels, or of SigLIP, which was trained so, the sigmoid of each. An image alone, and a text alone
({"text": ...}), is answered by its vector, as `get_image_features` and `get_text_features` give it.
Sources: Radford et al. 2021; Zhai et al. 2023.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Len

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data.examples import EncodedSet, Windows
from optkit.data.provoking import TEXTS
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models.pixels import PixelEncoder
from optkit.models.text import TextEncoder
from optkit.runtimes.towers import IDS, LOGITS, MASK, PIXELS, VECTORS, unit
from optkit.tasks import captions, image_classification
from optkit.tasks.base import Columns, Field, Labelled, Outputs
from optkit.tasks.candidate_labels import CandidateLabels, Fitting
from optkit.tasks.hypotheses import MOST, TEMPLATE_COLUMN, Asked, checked, listed_labels
from optkit.tasks.images import ImageInputs
from optkit.tasks.labelled import Answer, Input, JsonType
from optkit.tasks.vectors import VectorOptions

if TYPE_CHECKING:
    import datasets
    import torch

    from optkit.models.task import Shape

#: Kinds of models whose scores are a softmax over the labels, and a sigmoid of each.
_SOFTMAX, _SIGMOID = ("clip", "metaclip_2", "chinese_clip"), ("siglip",)
#: The tokens of every text of SigLIP, padding counted, which no mask hides.
_SIGLIP_TOKENS = 64
#: An image in a text, as browsers write it.
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,(.*)", re.DOTALL)
#: Asked of built-in pictures.
_LABELS = ("gradient", "stripes", "noise")
#: The least cosine of two vectors that count as the same.
_NEAR = 0.99


@dataclass
class ZeroShotImageClassification(ImageInputs, CandidateLabels):
    """`encoder` reads images, `texts` texts; `sigmoid`: each label is scored by itself."""

    name: ClassVar[str] = "zero-shot-image-classification"
    architectures: ClassVar[tuple[str, ...]] = (
        *("CLIPModel", "MetaClip2Model", "SiglipModel"),  # the first of Chinese CLIP, too
        # Which are refused in words:
        *(
            "AlignModel",
            "Blip2ForImageTextRetrieval",
            "BlipModel",
            "CLIPSegModel",
            "Siglip2Model",
            "Tipsv2Model",
            "VideoPrismClipModel",
        ),
    )
    auto_class: ClassVar[str] = "AutoModelForZeroShotImageClassification"
    has_towers: ClassVar[bool] = True
    embeds: ClassVar[bool] = True
    asks_labels: ClassVar[str] = name
    distills: ClassVar[bool] = False
    trained_by: ClassVar[str] = "OpenCLIP or transformers, contrastively"
    metrics: ClassVar = (*CandidateLabels.metrics, *captions.METRICS)
    template: ClassVar[str] = "This is a photo of {}."
    columns: ClassVar = {
        "text": image_classification.COLUMNS["text"],
        "pair": ("candidate_labels", "candidates"),
        "label": image_classification.COLUMNS["label"],
    }
    parts: ClassVar[Mapping[str, str]] = {**CandidateLabels.parts, "text": "image"}
    takes: ClassVar[tuple[Field, ...]] = (
        Field("image", binary=True),
        Field("candidate_labels"),
        Field(TEMPLATE_COLUMN, required=False),
    )
    sameness: ClassVar[str] = "the same label; of vectors a cosine of at least 0.99"
    metric: str
    encoder: PixelEncoder
    texts: TextEncoder
    sigmoid: bool

    @classmethod
    def check_architecture(cls, config: dict[str, Any], architecture: str) -> None:
        if config.get("model_type") not in (*_SOFTMAX, *_SIGMOID):
            raise CheckpointError(
                f"Expected a model of two towers of the kinds {', '.join((*_SOFTMAX, *_SIGMOID))}, received "
                f"{architecture} ({config.get('model_type')!r}).",
                hint="Take a CLIP, a SigLIP, or a SigLIP 2 of one image size: others are read in other ways.",
            )

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> ZeroShotImageClassification:
        """Raises CheckpointError for another kind of model, and for a SigLIP of fewer than 64 tokens."""
        cls.check_architecture(artifact.config, *(artifact.config.get("architectures") or ["a model"])[:1])
        images, texts = PixelEncoder(artifact.path), TextEncoder(artifact.path)
        sigmoid = artifact.config["model_type"] in _SIGMOID
        if images.varies:
            raise CheckpointError(
                f"Expected an image processor that gives images of one size, received {images.family}'s.",
                hint="Save the processor that the model was trained with beside it.",
            )
        if sigmoid:
            if texts.max_length < _SIGLIP_TOKENS:
                raise CheckpointError(
                    f"Expected a SigLIP of {_SIGLIP_TOKENS} tokens, to which transformers pads its texts, "
                    f"received one of {texts.max_length}.",
                    hint="Correct model_max_length in tokenizer_config.json, or take another checkpoint.",
                )
            texts.truncate(_SIGLIP_TOKENS)
        return cls(cls.checked_metric(metric), images, texts, sigmoid)

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        """Of one tower what it says itself."""
        return getattr(model, "outputs", {LOGITS: ("batch", "texts")})

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """One row per input: an image, its labels' hypotheses, or both.

        Raises DataError for what is no image, and where labels are missing, equal, or too many.
        """
        asked = [self._asked(item, i) for i, item in enumerate(inputs)]
        hypotheses = [x.hypotheses if isinstance(x, Asked) else _texts(x, i) for i, x in enumerate(asked)]
        blocks, truncated = self._blocks(hypotheses)
        none = np.zeros((0, self.encoder.channels, *self.encoder.size), dtype=np.float32)
        pixels = [
            none if _is_text(x) else self.encoder.read(x.item if isinstance(x, Asked) else x, i)[0][None]
            for i, x in enumerate(asked)
        ]
        told = [json.dumps(x.labels if isinstance(x, Asked) else None, ensure_ascii=False) for x in asked]
        names = {text: np.array([ord(c) for c in text], dtype=np.int64) for text in told}
        picks = [np.arange(len(x.labels) if isinstance(x, Asked) else 1) for x in asked]
        carried = {"characters": [names[text] for text in told]}
        windows = Windows(np.arange(len(asked)), picks, carried) if asked else None
        return EncodedSet({PIXELS: pixels, **blocks}, {IDS: self._padding}, truncated, windows)

    def _asked(self, item: Input, position: int) -> Input:
        """Labels to choose from, a text alone ({"text": ...}), or an image."""
        if isinstance(item, Mapping) and "candidate_labels" not in item:
            return item.get("image", item)
        if not isinstance(item, (Asked, Mapping, tuple, list)):
            return item
        asked = checked(item, position, "image", self.template, alone=self.sigmoid)
        if asked.multi_label:
            raise DataError(
                f"Expected no multi_label at position {position}: how labels are scored is the model's.",
                hint="SigLIP scores each label by itself, CLIP weighs them against each other.",
            )
        return asked

    @property
    def _padding(self) -> int:
        """The token that texts are padded with, which SigLIP sees."""
        stated = self.texts.tokenization.pad_id
        return self.texts.pad_id if stated is None else stated

    def _blocks(self, several: Sequence[Sequence[str]]) -> tuple[dict[str, list[np.ndarray]], int]:
        """For each list of texts `input_ids` (texts, tokens), and what hides their padding where the model
        is told; how many texts were cut."""
        flat = list(dict.fromkeys(text for texts in several for text in texts))
        encoded = self.texts.encode(flat)
        ids = dict(zip(flat, encoded.arrays[IDS]))
        masked = MASK in self.texts.tokenization.inputs
        known: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {}
        for texts in map(tuple, several):
            if texts not in known:
                known[texts] = self._block([ids[text] for text in texts])
        blocks = [known[tuple(texts)] for texts in several]
        arrays = {IDS: [block for block, _ in blocks]}
        return arrays | ({MASK: [mask for _, mask in blocks]} if masked else {}), encoded.truncated

    def _block(self, rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        longest = _SIGLIP_TOKENS if self.sigmoid else max(map(len, rows), default=1)
        ids = np.full((len(rows), longest), self._padding, dtype=np.int64)
        mask = np.zeros_like(ids)
        left = self.texts.tokenization.padding_side == "left"
        for row, real in enumerate(rows):
            there = slice(longest - len(real), None) if left and self.sigmoid else slice(0, len(real))
            ids[row, there], mask[row, there] = real, 1
        return ids, mask

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        """Images with labels, or for recall with their captions: then `inputs` are the different images, and
        behind them the different captions."""
        names = rows.column_names
        known = next((n for n in captions.COLUMNS if n in names), None)
        if self.metric not in captions.METRICS:
            if known and columns.label is None and not set(self.columns["label"]) & set(names):
                raise DataError(
                    f"Expected a label of each image, received captions (column {known!r}).",
                    hint=f"For recall by captions give --metric {captions.METRICS[0]}, or another of it.",
                )
            return super().read(rows, columns)
        image = self.column(names, "text", columns)
        caption = columns.label or known or self.column(names, "label", columns)
        inputs, references = captions.members(zip(rows[image], rows[caption]), caption)
        sources = [x["text"] if _is_text(x) else self.named([x])[0] for x in inputs]
        read = Columns(image, None, caption)
        return Labelled(self.encode(inputs), references, sources, inputs, columns=read)

    def answers(self, outputs: Outputs) -> np.ndarray:
        """The labels of each image; for recall vectors, (images and captions, width)."""
        if self.metric not in captions.METRICS:
            return super().answers(outputs)
        return np.stack(self.decode(outputs))

    def score(self, answers: np.ndarray, references: Sequence[Answer]) -> float:
        if self.metric not in captions.METRICS:
            return super().score(answers, references)
        return float(captions.hits(self.metric, answers, references).mean())

    def outcomes(self, answers: np.ndarray, references: Sequence[Answer]) -> np.ndarray | None:
        """For recall one per query."""
        if self.metric not in captions.METRICS:
            return super().outcomes(answers, references)
        return captions.hits(self.metric, answers, references)

    @property
    def has_table(self) -> bool:
        return self.metric in captions.METRICS

    def table(self, answers: np.ndarray, references: Sequence[Answer]) -> list[Any]:
        return captions.table(answers, references) if self.has_table else []

    def agreement(self, answers: np.ndarray, others: np.ndarray) -> float:
        """For recall the mean cosine of two vectors of one input."""
        if self.metric not in captions.METRICS:
            return super().agreement(answers, others)
        return float((unit(answers) * unit(others)).sum(axis=1).mean()) if len(answers) else 1.0

    def drawn(self, item: Input, reference: Answer, before: Answer, after: Answer) -> dict[str, Json]:
        return super().drawn(self._asked(item, 0).item, reference, before, after)

    def items_of(self, rows: datasets.Dataset, name: str) -> list[Input]:
        return list(rows[name])

    def sources_of(self, items: Sequence[Input]) -> list[str]:
        return self.named(items)

    @classmethod
    def pair_column(cls, names: Sequence[str], text: str) -> str:
        return cls.column(names, "pair")

    @classmethod
    def input_columns(cls, names: Sequence[str], wanted: Columns = Columns()) -> tuple[str, ...]:
        """The image and its candidate labels, and the template where there is one."""
        both = super(CandidateLabels, cls).input_columns(names, wanted)
        return (*both, *(name for name in (TEMPLATE_COLUMN,) if name in names))

    from_line = CandidateLabels.from_line

    def decode(self, outputs: Outputs) -> list[Answer]:
        """A `Fitting` of each image with labels, and of what is alone its vector, (width,) float32."""
        answers: list[Answer] = []
        for i, characters in enumerate(outputs["characters"]):
            labels = json.loads("".join(map(chr, characters.tolist())))
            if labels is None:
                answers.append(np.asarray(outputs[VECTORS][i][0], dtype=np.float32))
                continue
            logits = np.asarray(outputs[LOGITS][i], dtype=np.float64)
            scores = 0.5 * (1 + np.tanh(0.5 * logits)) if self.sigmoid else np.exp(logits - logits.max())
            scores = scores if self.sigmoid else scores / scores.sum()
            order = np.argsort(-scores, kind="stable")
            answers.append(Fitting([labels[j] for j in order], scores[order].tolist(), logits, False))
        return answers

    def same(self, outputs: Outputs, others: Outputs) -> np.ndarray:
        pairs = zip(self.decode(outputs), self.decode(others))
        return np.array([self.alike(*pair) >= (_NEAR if _is_vector(pair[0]) else 1) for pair in pairs])

    def alike(self, answer: Answer, other: Answer) -> float:
        """Of vectors their cosine, at least 0."""
        if _is_vector(answer):
            return max(0.0, float(unit(answer) @ unit(other)))
        return float(answer.label == other.label)

    def probes(self, texts: Sequence[str]) -> list[Input]:
        """Generated pictures, each with a built-in text among its labels."""
        pictures = super().probes(texts)
        return [(picture, [*_LABELS, text or " "], "{}") for picture, text in zip(pictures, texts)]

    def samples(self) -> Sequence[Input]:
        return [(image, list(_LABELS)) for image in super().samples()] + [(super().samples()[0], TEXTS[:3])]

    def json_type(self, text: JsonType) -> JsonType:
        labels = Annotated[list[text], Len(1, MOST)] | text
        return {"image": super().json_type(text), "candidate_labels": labels, TEMPLATE_COLUMN: text}

    def from_json(self, value: Json) -> Input:
        if not isinstance(value, dict):
            raise DataError(f"Expected an image with its candidate_labels, received {type(value).__name__}.")
        return {**value, "image": self.file_of(value.get("image"))}

    def to_embed(self, value: Json) -> Input:
        """A text is one, unless it is an image as a data URI; an image may be that, or its base64 alone."""
        if isinstance(value, str):
            return self.file_of({"b64": uri[1]}) if (uri := _DATA_URI.match(value)) else {"text": value}
        if isinstance(value, dict) and value.keys() == {"image"} and isinstance(value["image"], str):
            uri = _DATA_URI.match(value["image"])
            return self.file_of({"b64": uri[1] if uri else value["image"]})
        return {"text": super().to_embed(value)}

    def token_count(self, inputs: Sequence[Input]) -> int:
        """Those of what is a text alone."""
        texts = [text for i, item in enumerate(inputs) for text in _texts(item, i)]
        return int(self.texts.encode(texts).lengths.sum())

    def prepared(self, inputs: Sequence[Input], options: Mapping[str, Any]) -> Sequence[Input]:
        """`options` are those of vectors. Raises RecipeError for a prompt, which none of these models has."""
        asked = VectorOptions(**options) if options else VectorOptions()
        if asked.prompt is not None or asked.prompt_name is not None:
            raise RecipeError(f"{self.name} has no prompts: leave prompt_name and prompt out.")
        return inputs

    def finished(self, answers: list[Answer], options: Mapping[str, Any]) -> list[Answer]:
        return VectorOptions(**options).vectors(answers) if options else answers

    def to_json(self, item: Input) -> Json:
        asked = self._asked(item, 0)
        image = super().to_json(asked.item)
        values = (image, list(asked.labels), asked.template)
        return dict(zip((x.name for x in self.takes), values))

    def from_fields(self, values: Sequence[Any]) -> Input:
        """The labels are a JSON list, or one text with commas between them."""
        image, labels, template = (*values, None)[:3]
        whole = {"image": super().from_fields([image]), "candidate_labels": listed_labels(labels)}
        return {**whole, TEMPLATE_COLUMN: template}

    def describe(self, answer: Answer) -> dict[str, Any]:
        return {"vector": answer.tolist()} if _is_vector(answer) else super().describe(answer)

    def line(self, answer: Answer) -> str:
        if _is_vector(answer):
            return "[" + ", ".join(f"{x:.6g}" for x in answer) + "]"
        return super().line(answer)


def _is_vector(answer: Answer) -> bool:
    return isinstance(answer, np.ndarray)


def _is_text(item: Input) -> bool:
    return isinstance(item, Mapping) and "text" in item


def _texts(item: Input, position: int) -> list[str]:
    """The text of what is a text alone; none of an image. Raises DataError."""
    if not _is_text(item):
        return []
    if not isinstance(item["text"], str):
        raise DataError(f"Expected a text at position {position}, received {type(item['text']).__name__}.")
    return [item["text"]]


TASK = ZeroShotImageClassification
