"""Zero-shot classification: a text and labels that nobody trained → how well each of them fits.

A model of natural-language inference reads the text with a hypothesis for each label ("This example is
sports."). Scores are those of transformers' ZeroShotClassificationPipeline: the softmax of the entailment
logits over the labels, or for each label by itself (`multi_label`) of entailment against contradiction.
Source: Yin, Hay and Roth 2019.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Len
from pydantic import Strict

from optkit.core.artifact import Artifact
from optkit.core.reading import Json
from optkit.data.examples import EncodedSet, Windows
from optkit.data.provoking import PAIRS
from optkit.errors import CheckpointError
from optkit.models.text import TextEncoder
from optkit.tasks import text_classification
from optkit.tasks.base import Field, Outputs
from optkit.tasks.candidate_labels import CandidateLabels, Fitting
from optkit.tasks.hypotheses import MOST, MULTI_COLUMN, TEMPLATE_COLUMN, checked, listed_labels
from optkit.tasks.label_columns import labels_of
from optkit.tasks.label_mapping import listed
from optkit.tasks.labelled import Input, JsonType

#: Asked of built-in texts.
_LABELS = ("news", "sports", "science")
_TRUE = {"true": True, "false": False}


@dataclass
class ZeroShotClassification(CandidateLabels):
    """`count` labels of inference has the model, `entailment` and `contradiction` among them, by index."""

    name: ClassVar[str] = "zero-shot-classification"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    asks_labels: ClassVar[str] = name
    trained_by: ClassVar[str] = "--task text-classification"
    columns: ClassVar = {
        "text": text_classification.COLUMNS["text"],
        "pair": ("candidate_labels", "candidates"),
        "label": text_classification.COLUMNS["label"],
    }
    takes: ClassVar[tuple[Field, ...]] = (
        Field("text"),
        Field("candidate_labels"),
        Field(TEMPLATE_COLUMN, required=False),
        Field(MULTI_COLUMN, required=False),
    )
    metric: str
    encoder: TextEncoder
    count: int
    entailment: int
    contradiction: int

    @classmethod
    def check_architecture(cls, config: dict[str, Any], architecture: str) -> None:
        _inference_labels(config, architecture)

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> ZeroShotClassification:
        architecture = (artifact.config.get("architectures") or ["a model"])[0]
        known = _inference_labels(artifact.config, architecture)
        return cls(cls.checked_metric(metric), TextEncoder(artifact.path), *known)

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """One row per label; of a pair that is too long the text is cut, never the hypothesis.

        Raises DataError for what is no text with 2 to `MOST` different labels, or 1 with multi_label.
        """
        given = [checked(item, i) for i, item in enumerate(inputs)]
        encoded = self.encoder.cut_first([(x.item, text) for x in given for text in x.hypotheses])
        if not given:
            return encoded
        told = [json.dumps([x.labels, x.multi_label], ensure_ascii=False) for x in given]
        characters = [np.array([ord(c) for c in text], dtype=np.int64) for text in told]
        counts = [len(x.labels) for x in given]
        return replace(encoded, windows=Windows.of_rows(counts, self.count, characters=characters))

    def decode(self, outputs: Outputs) -> list[Fitting]:
        """One `Fitting` per text."""
        answers = []
        for logits, characters in zip(outputs["logits"], outputs["characters"]):
            labels, multi_label = json.loads("".join(map(chr, characters.tolist())))
            each = np.reshape(logits, (len(labels), self.count))
            answers.append(Fitting.of(labels, each[:, [self.contradiction, self.entailment]], multi_label))
        return answers

    def probes(self, texts: Sequence[str]) -> list[Input]:
        return [(text, list(_LABELS)) for text in texts]

    def samples(self) -> Sequence[Input]:
        return self.probes([str(text) for text in super().samples()])

    def provoking(self) -> list[list[Input]]:
        """Pairs as they are: the template is the label alone."""
        return [[(text, [label], "{}", True) for text, label in PAIRS]]

    def pieces(self, item: Input) -> list[Input]:
        asked = checked(item, 0)
        return [replace(asked, labels=(label,)) for label in asked.labels]

    def joined(self, answers: Sequence[Fitting]) -> Fitting:
        logits = np.concatenate([answer.logits for answer in answers])
        return Fitting.of([answer.label for answer in answers], logits, answers[0].multi_label)

    def json_type(self, text: JsonType) -> JsonType:
        return {
            "text": text,
            "candidate_labels": Annotated[list[text], Len(1, MOST)] | text,
            TEMPLATE_COLUMN: text,
            MULTI_COLUMN: Annotated[bool, Strict()],
        }

    def to_json(self, item: Input) -> Json:
        asked = checked(item, 0)
        values = (asked.item, list(asked.labels), asked.template, asked.multi_label)
        return dict(zip((x.name for x in self.takes), values))

    def from_fields(self, values: Sequence[Any]) -> Input:
        """The labels are a JSON list, or one text with commas between them; multi_label is true or false."""
        text, labels, template, multi_label = (*values, None, None)[:4]
        flag = _TRUE.get(str(multi_label).lower(), multi_label)
        return {
            "text": text,
            "candidate_labels": listed_labels(labels),
            TEMPLATE_COLUMN: template,
            MULTI_COLUMN: flag,
        }


def _inference_labels(config: Mapping[str, Any], architecture: str) -> tuple[int, int, int]:
    """How many labels, the place of entailment, and of what it is weighed against, as the pipeline has it.

    Raises CheckpointError where no label, or another one by label2id than by id2label, is entailment.
    """
    labels = labels_of(dict(config))
    stated = config.get("label2id") or {label: i for i, label in enumerate(labels)}
    found = next((place for label, place in stated.items() if str(label).lower().startswith("entail")), None)
    if len(labels) < 2 or found is None:
        raise CheckpointError(
            f"Expected a model of natural-language inference, one of whose labels is entailment, received "
            f"{architecture} with the labels {listed(labels) or 'of no name'}.",
            hint="Take one that was trained on such data (MNLI, XNLI), with its labels in id2label and "
            "label2id of config.json; other classifiers are for --task text-classification.",
        )
    if not isinstance(found, int) or not 0 <= found < len(labels) or not _entails(labels[found]):
        raise CheckpointError(
            f"config.json disagrees with itself: label2id has entailment at {found}, id2label has "
            f"{listed(labels)}.",
            hint="Correct the one that is wrong: transformers reads label2id here.",
        )
    return len(labels), found, len(labels) - 1 if found == 0 else 0


def _entails(label: str) -> bool:
    return str(label).lower().startswith("entail")


TASK = ZeroShotClassification
