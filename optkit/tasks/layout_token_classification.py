"""Token classification with layout: a tag per word of a page, by the word and where it stands there.

For models that read tokens with boxes and no image: LayoutLM, LiLT, BROS. A box is that of a word, in
thousandths of the page: left, top, right, bottom, from its top left. Each token has the box of its word, what
the tokenizer puts before the words has zeros, and what it puts behind them `ENDS`, as transformers' examples
and tokenizers do. All else is as for token-classification.
Source: Y. Xu et al., "LayoutLM" (KDD 2020); transformers 5.23, `LayoutLMModel`, `LayoutLMv3Tokenizer`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field as Limits

from optkit.core.artifact import Artifact
from optkit.core.reading import Json, read_json
from optkit.data.provoking import WORDS
from optkit.errors import CheckpointError, DataError
from optkit.models.limits import WITH_BOXES
from optkit.tasks.base import Columns, Field, Task
from optkit.tasks.labelled import Input, JsonType
from optkit.tasks.token_classification import COLUMNS, TokenClassification

if TYPE_CHECKING:
    import datasets
    import torch
    from tokenizers import Encoding


#: A box's numbers are shares of the page, of so many.
WHOLE = 1000
#: The box of what stands behind the words, unless the tokenizer says another (`sep_token_box`).
ENDS = (WHOLE,) * 4
_FORM = '{"words": [...], "boxes": [[left, top, right, bottom], ...]}'
_HINT = "Divide by the width or the height of the page, times 1000: 0 is left and top, 1000 right and bottom."


@dataclass
class LayoutTokenClassification(TokenClassification):
    """`ends` is the box of what stands behind the words; `is_share`: the model takes shares of 1 (BROS)."""

    name: ClassVar[str] = "layout-token-classification"
    architectures: ClassVar[tuple[str, ...]] = ()  # as for words alone: the family says it
    also_reads: ClassVar[tuple[str, ...]] = ("bbox",)
    columns: ClassVar = {
        "text": COLUMNS["text"],
        "pair": ("bboxes", "boxes", "bbox"),
        "label": COLUMNS["label"],
    }
    parts: ClassVar = {**TokenClassification.parts, "pair": "list of boxes"}
    takes: ClassVar[tuple[Field, ...]] = (Field("words"), Field("boxes"))
    ends: tuple[int, ...] = ENDS
    is_share: bool = False

    @classmethod
    def declared_by(cls, folder: Path, config: Mapping[str, Any]) -> bool:
        first = str((config.get("architectures") or [""])[0])
        return config.get("model_type") in WITH_BOXES and first.endswith(TokenClassification.architectures)

    @classmethod
    def check_architecture(cls, config: dict[str, Any], architecture: str) -> None:
        if config.get("model_type") not in WITH_BOXES:
            raise CheckpointError(
                f"{architecture} does not read where words stand: {cls.name} is for {', '.join(WITH_BOXES)}.",
                hint="Give --task token-classification.",
            )

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        """By its name alone: words with boxes may be for a model that reads the words."""
        return False

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> LayoutTokenClassification:
        return cls._of(super().from_artifact(artifact, metric), artifact)

    @classmethod
    def for_training(
        cls, source: Artifact, config: dict[str, Any], max_length: int | None
    ) -> LayoutTokenClassification:
        return cls._of(super().for_training(source, config, max_length), source)

    @staticmethod
    def _of(task: TokenClassification, source: Artifact) -> LayoutTokenClassification:
        assert isinstance(task, LayoutTokenClassification)
        file = source.path / "tokenizer_config.json"
        stated = read_json(file, CheckpointError).get("sep_token_box") if file.exists() else None
        if stated is None and task.encoder.tokenization.kind.startswith("LayoutLMv3"):
            stated = [0] * 4
        if stated is not None:
            task.ends = tuple(_box(stated, f"sep_token_box of {str(file)!r}"))
        task.is_share = source.config.get("model_type") == "bros"
        return task

    @classmethod
    def input_columns(cls, names: Sequence[str], wanted: Columns = Columns()) -> tuple[str, ...]:
        return cls.column(names, "text", wanted), cls.column(names, "pair", wanted)

    @classmethod
    def from_line(cls, line: str) -> Input:
        raise DataError(
            f"Expected {_FORM}, received a text, of which nobody knows where its words stand.",
            hint="Give --input FILE with columns words and boxes, or call predict in Python.",
        )

    def words_of(self, place: int, item: Input) -> list[str]:
        return _page(item, f"position {place}")[0]

    def inputs_of(
        self, rows: datasets.Dataset, words: str, columns: Columns
    ) -> tuple[list[Input], str | None]:
        boxes = self.column(rows.column_names, "pair", columns)
        pages = [_page((w, b), f"row {i}") for i, (w, b) in enumerate(zip(rows[words], rows[boxes]))]
        return [{"words": words, "boxes": boxes} for words, boxes in pages], boxes

    def beside(
        self, each: Sequence[Sequence[Encoding]], inputs: Sequence[Input]
    ) -> dict[str, list[np.ndarray]]:
        """`bbox`, (tokens, 4) per window, int64, or float32 shares of 1."""
        rows = []
        for item, windows in zip(inputs, each):
            table = np.array([*_page(item, "this place")[1], (0,) * 4, self.ends], dtype=np.int64)
            for window in windows:
                special = [-2 if i == 0 else -1 for i in range(len(window.ids))]
                places = [s if word is None else word for s, word in zip(special, window.word_ids)]
                rows.append(table[places] if places else np.zeros((0, 4), dtype=np.int64))
        return {"bbox": [(row / WHOLE).astype(np.float32) for row in rows] if self.is_share else rows}

    def provoking(self) -> list[list[Input]]:
        return [[_laid(words) for words in WORDS]]

    def probes(self, texts: Sequence[str]) -> list[Input]:
        return [_laid(self.words(text)) for text in texts]

    def samples(self) -> Sequence[Input]:
        return [_laid(self.words(text)) for text in Task.samples(self)]

    def json_type(self, text: JsonType) -> JsonType:
        box = Annotated[list[Annotated[int, Limits(strict=True)]], Limits(min_length=4, max_length=4)]
        return {"words": list[text], "boxes": list[box]}

    def to_json(self, item: Input) -> Json:
        words, boxes = _page(item, "this place")
        return {"words": words, "boxes": boxes}

    def from_fields(self, values: Sequence[Any]) -> Input:
        """Each part is a list, or in a tensor, which has one element per page, its JSON."""
        try:
            words, boxes = (json.loads(x) if isinstance(x, str) else x for x in values)
        except ValueError as reason:
            raise DataError(f"Expected {_FORM}, received {str(values)[:80]!r}: {reason}.") from reason
        return {"words": words, "boxes": boxes}

    def network(self, source: Artifact, config: dict[str, Any], load: Any) -> torch.nn.Module:
        model = super().network(source, config, load)
        model.optkit_task = self.name
        return model


def _page(item: Input, where: str) -> tuple[list[str], list[list[int]]]:
    """The words of a page and their boxes. Raises DataError."""
    if isinstance(item, Mapping) and set(item) == {"words", "boxes"}:
        item = (item["words"], item["boxes"])
    if not (isinstance(item, tuple | list) and len(item) == 2 and not isinstance(item[0], str)):
        raise DataError(
            f"Expected {_FORM} at {where}, received {str(item)[:80]!r}.",
            hint="This model reads where each word stands on the page.",
        )
    words, boxes = item
    texts = isinstance(words, list | tuple) and all(isinstance(word, str) for word in words)
    if not texts or not isinstance(boxes, list | tuple | np.ndarray):
        raise DataError(
            f"Expected a list of words and a list of boxes at {where}, received {str(item)[:80]!r}."
        )
    if len(words) != len(boxes):
        raise DataError(
            f"Expected a box for each of {len(words)} words at {where}, received {len(boxes)} boxes."
        )
    return list(words), [_box(box, f"word {i} at {where}") for i, box in enumerate(boxes)]


def _box(box: Any, where: str) -> list[int]:
    """Four whole numbers of 0 to 1000, left not behind right, top not below bottom. Raises DataError."""
    numbers = list(box) if isinstance(box, list | tuple | np.ndarray) else []
    if len(numbers) != 4 or not all(
        isinstance(x, int | float | np.number) and float(x).is_integer() for x in numbers
    ):
        raise DataError(
            f"Expected a box of four whole numbers for {where}, received {str(box)[:80]!r}.", hint=_HINT
        )
    left, top, right, bottom = numbers = [int(x) for x in numbers]
    if min(numbers) < 0 or max(numbers) > WHOLE or left > right or top > bottom:
        raise DataError(
            f"Expected left, top, right, bottom of 0 to {WHOLE}, left at most right and top at most bottom, "
            f"for {where}, received {numbers}.",
            hint=_HINT,
        )
    return numbers


def _laid(words: Sequence[str]) -> dict[str, Any]:
    """`words` as they may stand on a page, ten to a line."""
    boxes = [
        [90 * (i % 10), 20 * (i // 10 % 48), 90 * (i % 10) + 80, 20 * (i // 10 % 48) + 15]
        for i in range(len(words))
    ]
    return {"words": list(words), "boxes": boxes}


TASK = LayoutTokenClassification
