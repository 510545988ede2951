"""Fine-tuning for token classification: the loss counts the first subword of each word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.data.dataset import class_names
from optkit.errors import DataError
from optkit.models import tokenization
from optkit.models.text import TextEncoder
from optkit.models.tokenization_worker import resolve
from optkit.tasks.base import Columns, Labelled, Task
from optkit.tasks.label_mapping import label_name
from optkit.tasks.token_classification import TokenClassification, check_lengths, is_bio
from optkit.training.kinds import Kind, labels_config


class TokenClassificationKind(Kind):
    auto_class = "AutoModelForTokenClassification"

    def fits(self, rows: Any, columns: Columns) -> bool:
        names = rows.column_names
        known = TokenClassification.columns
        text = [columns.text] if columns.text else known["text"]
        tags = [columns.label] if columns.label else known["label"]
        return any(n in names and isinstance(rows[0][n], list) for n in text) and any(
            n in names for n in tags
        )

    def config(self, rows: Any, columns: Columns) -> dict[str, Any]:
        words, tags = (TokenClassification.column(rows.column_names, x, columns) for x in ("text", "label"))
        names = class_names(rows.features.get(tags))
        found: dict[str, int] = {}  # tag → first row
        for row, (item, given) in enumerate(zip(rows[words], rows[tags])):
            check_lengths(item, given, row)
            for tag in given:
                known = names and isinstance(tag, int) and 0 <= tag < len(names)
                found.setdefault(names[tag] if names and known else label_name(tag), row)
        if any(tag.startswith(("B-", "I-")) for tag in found):
            _refuse_other_schemes(found)
        for tag in [tag for tag in found if tag.startswith("B-")]:
            found.setdefault(f"I-{tag[2:]}", -1)  # entities of this type are single words in this split
        labels = sorted(found, key=lambda tag: (tag != "O", tag[2:] if "-" in tag else tag, tag))
        if all(tag.isdecimal() for tag in found):  # by size, as the numbers of classes are
            labels = sorted(found, key=int)
        if len(labels) < 2:
            raise DataError(f"Expected at least two tags in column {tags!r}, received: {labels}.")
        return labels_config(labels)

    def task(self, source: Artifact, config: dict[str, Any], max_length: int | None) -> Task:
        encoder = TextEncoder(source.path)
        if not encoder.reads_words_as_text:
            encoder = _with_spaces(source.path) or encoder
        encoder.truncate(max_length)
        labels = list(config["id2label"].values())
        return TokenClassification(
            labels, TokenClassification.default_metric(labels), encoder, own_labels=True
        )

    def tokenizer_settings(self, task: Task, source: Artifact) -> dict[str, Any]:
        """The space before each word belongs to the checkpoint, as it was learned with it."""
        assert isinstance(task, TokenClassification)
        own = tokenization.read(source.path).digest == task.encoder.tokenization.digest
        return {} if own else {"add_prefix_space": True}

    def class_counts(self, task: Task, labelled: Labelled) -> np.ndarray | None:
        flat = np.concatenate(self.targets(task, labelled)["labels"])
        assert isinstance(task, TokenClassification)
        return np.bincount(flat[flat >= 0], minlength=len(task.labels))

    def targets(self, task: Task, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        assert isinstance(task, TokenClassification)
        windows = labelled.encoded.windows
        assert windows is not None
        index = {label: i for i, label in enumerate(task.labels)}
        taken = [0] * len(labelled.references)
        targets = []
        for owner, picks, length in zip(windows.owner, windows.picks, labelled.encoded.lengths):
            words = windows.carried["words"][owner][taken[owner] : taken[owner] + len(picks)]
            taken[owner] += len(picks)
            row = np.full(int(length), -100, dtype=np.int64)
            row[picks] = [index[labelled.references[owner][word]] for word in words]
            targets.append(row)
        return {"labels": targets}


def _with_spaces(folder: Path) -> TextEncoder | None:
    """What puts a space before each word, as transformers' run_ner.py does; None where that does not help.

    RoBERTa's and GPT-2's words would else be read as if they were one, and the model would not know them in
    a text.
    """
    encoder = TextEncoder(folder, found=resolve(folder, add_prefix_space=True))
    return encoder if encoder.reads_words_as_text else None


def _refuse_other_schemes(found: dict[str, int]) -> None:
    """DataError for a tag that is no BIO among tags that are."""
    for tag, row in found.items():
        if not is_bio(["B-x", tag]):
            raise DataError(
                f"The tag {tag!r} in row {row} is not BIO, as the others are: O, B-TYPE, I-TYPE.",
                hint="Write S-TYPE as B-TYPE and E-TYPE as I-TYPE.",
            )


KIND = TokenClassificationKind()
