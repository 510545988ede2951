"""`Settings`: what `preprocess` does to each row, and how rows become splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optkit.errors import DataError, did_you_mean
from optkit.quantities import COUNT_OR_NONE, SEED, check_all
from optkit.tasks import text_classification, token_classification

SEGMENTERS = ("none", "jieba", "sentences")


@dataclass(frozen=True)
class Settings:
    """`shares` are those of train, validation and test; they sum to 1. `tag` is what `open_tagger` takes.

    `pair` names the column of the second text; None stands for the names that fine-tuning looks for.

    Raises DataError.
    """

    text: str = "text"
    label: str | None = "label"
    unescape: bool = False
    drop_empty: bool = True
    drop_duplicates: bool = False
    segment: str = "none"
    tag: str = "none"
    tag_features: bool = False
    encode_labels: bool = False
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    stratify: bool = False
    seed: int = 0
    skip_bad: int = 0
    pair: str | None = None

    def __post_init__(self) -> None:
        if self.segment not in SEGMENTERS:
            raise DataError(
                f"Unknown way to segment: {self.segment!r}.", hint=did_you_mean(self.segment, SEGMENTERS)
            )
        if len(self.shares) != 3 or not (min(self.shares) >= 0 and abs(sum(self.shares) - 1) <= 1e-9):
            raise DataError(
                f"Expected three shares, none negative, with the sum 1, received {self.shares}.",
                hint="For example: --shares 0.8,0.1,0.1 for train, validation, test.",
            )
        if self.shares[0] == 0:
            raise DataError("Expected a train share above 0, received 0.")
        if self.label is None and (self.encode_labels or self.stratify):
            flag = "--encode-labels" if self.encode_labels else "--stratify"
            raise DataError(
                f"Expected labels for {flag}, received --no-label.", hint="Leave one of them out."
            )
        check_all(self, {"seed": SEED, "skip_bad": COUNT_OR_NONE})
        if self.tag != "none" and self.segment == "sentences":
            raise DataError("Tags are of words; received segment 'sentences' with a tagger.")

    def second(self, row: Mapping[str, Any]) -> str | None:
        """The column of the second text of `row`; None where it has none.

        >>> Settings().second({"text": "It rains.", "hypothesis": "It is wet.", "label": "yes"})
        'hypothesis'
        """
        if self.pair is not None:
            return self.pair
        return next(
            (
                name
                for name in text_classification.COLUMNS["pair"]
                if name in row and name not in (self.text, self.label) and isinstance(row[name], str | None)
            ),
            None,
        )

    def labelled(self, row: Mapping[str, Any]) -> str | None:
        """The column of the labels of `row`, of words that of their tags; None where it has none.

        >>> Settings().labelled({"tokens": ["Ada"], "ner_tags": ["B-PER"]})
        'ner_tags'
        """
        given = row.get(self.label) if self.label else None
        if "tokens" not in row or isinstance(given, list):
            return self.label if given is not None else None
        names = token_classification.COLUMNS["label"]
        return next((name for name in names if row.get(name) is not None), None)
