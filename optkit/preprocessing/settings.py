"""`Settings`: what `preprocess` does to each row, and how rows become splits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optkit.core.quantities import COUNT_OR_NONE, SEED, check_all
from optkit.errors import DataError, did_you_mean
from optkit.tasks.text_classification import TextClassification
from optkit.tasks.token_classification import TokenClassification

SEGMENTERS = ("none", "jieba", "sentences")
#: Stands for a column that nobody named: the first that the data has of those that fine-tuning looks for.
BY_NAME = ""


@dataclass(frozen=True)
class Settings:
    """`shares` are those of train, validation and test; they sum to 1. `tag` is what `open_tagger` takes.

    `text`, `label` and `pair` are columns; `BY_NAME`, of the second text None, stands for the names that
    fine-tuning looks for, and None as `label` for no labels.

    Raises DataError.
    """

    text: str = BY_NAME
    label: str | None = BY_NAME
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

    def of(self, names: Collection[str]) -> Settings:
        """These settings for rows with the columns `names`: with what was to be found by name.

        >>> settings = Settings().of(["id", "sentence", "intent"])
        >>> settings.text, settings.label
        ('sentence', 'intent')
        """
        known = TextClassification.columns
        # Beside answers a question is no text: a row that lacks its context is a corrupt one.
        texts = [] if "answers" in names else [name for name in known["text"] if name in names]
        text = self.text or (texts or known["text"])[0]
        labels = [name for name in known["label"] if name in names and name not in (text, self.pair)]
        label = (labels or known["label"])[0] if self.label == BY_NAME else self.label
        return replace(self, text=text, label=label)

    def second(self, row: Mapping[str, Any]) -> str | None:
        """The column of the second text of `row`; None where it has none.

        >>> Settings("text").second({"text": "It rains.", "hypothesis": "It is wet.", "label": "yes"})
        'hypothesis'
        """
        if self.pair is not None:
            return self.pair
        names = [n for n, value in row.items() if n != self.label and isinstance(value, str | None)]
        return TextClassification.pair_column(names, self.text)

    def in_words(self, row: dict[str, Any]) -> dict[str, Any]:
        """`row` with its list of words, if it is one of words, under the name that all others have."""
        names = TokenClassification.columns["text"]
        name = next((name for name in names if isinstance(row.get(name), list)), None)
        if name in (None, names[0]) or names[0] in row or self.text in row:
            return row
        return {names[0] if column == name else column: value for column, value in row.items()}

    def labelled(self, row: Mapping[str, Any]) -> str | None:
        """The column of the labels of `row`, of words that of their tags; None where it has none.

        >>> Settings(label="label").labelled({"tokens": ["Ada"], "ner_tags": ["B-PER"]})
        'ner_tags'
        """
        given = row.get(self.label) if self.label else None
        if "tokens" not in row or isinstance(given, list):
            return self.label if given is not None else None
        names = TokenClassification.columns["label"]
        return next((name for name in names if row.get(name) is not None), None)


def shares_of(shares: str | Sequence[float]) -> tuple[float, float, float]:
    """The three shares that are written in text with commas, or listed. Raises DataError."""
    try:
        train, validation, test = map(float, shares.split(",") if isinstance(shares, str) else shares)
    except (TypeError, ValueError) as reason:
        raise DataError(f"Expected three shares such as 0.8,0.1,0.1, received {shares!r}.") from reason
    return train, validation, test
