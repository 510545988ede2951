"""What a zero-shot classifier is asked: a text, candidate labels, and the hypothesis that each makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from optkit.core.reading import Json
from optkit.errors import DataError
from optkit.tasks.labelled import Input

#: The most candidate labels of one text.
MOST = 1000
#: The hypothesis unless another is given, as in transformers' pipeline.
TEMPLATE = "This example is {}."
#: Columns of a row that change how it is asked.
TEMPLATE_COLUMN, MULTI_COLUMN = "hypothesis_template", "multi_label"
_HINT = 'Write ("text", ["label", ...]) or {"text": ..., "candidate_labels": [...]}.'


@dataclass(frozen=True)
class Asked:
    """A text, or an image, and the labels to choose from; `template` holds {} where a label goes."""

    item: Input
    labels: tuple[str, ...]
    template: str = TEMPLATE
    multi_label: bool = False

    @property
    def hypotheses(self) -> list[str]:
        return [self.template.format(label) for label in self.labels]


def checked(
    item: Input, position: int, part: str = "text", template: str = TEMPLATE, alone: bool = False
) -> Asked:
    """What is asked of a `part` at `position`; one label `alone` may be asked of. Raises DataError."""
    if isinstance(item, Asked):
        return item
    if isinstance(item, Mapping):
        item = tuple(item.get(n) for n in (part, "candidate_labels", TEMPLATE_COLUMN, MULTI_COLUMN))
    pair = isinstance(item, (tuple, list)) and 2 <= len(item) <= 4 and item[0] is not None
    if not pair or (part == "text" and not isinstance(item[0], str)):
        raise DataError(
            f"Expected {'an' if part == 'image' else 'a'} {part} with its candidate labels at position "
            f"{position}, received {type(item).__name__}.",
            hint=_HINT.replace("text", part),
        )
    more = [x for x in item[2:] if x is not None]  # a row may have the last without the one before
    if [type(x) for x in more] not in ([], [str], [bool], [str, bool]):
        raise DataError(
            f"Expected a hypothesis template and multi_label (true or false) at position {position}, "
            f"received {' and '.join(type(x).__name__ for x in more)}.",
            hint=_HINT,
        )
    template = next((x for x in more if isinstance(x, str)), template)
    multi_label = True in more
    labels = labels_in(item[1], position)
    _check_template(template, position)
    if len(labels) == 1 and not (multi_label or alone):
        raise DataError(
            f"Expected at least two candidate labels at position {position}, received one: there is "
            "nothing to choose.",
            hint="With multi_label its score says how far it fits by itself." if part == "text" else None,
        )
    return Asked(item[0], tuple(labels), template, multi_label)


def labels_in(value: Any, position: int) -> list[str]:
    """1 to `MOST` different labels, from a list or a text with commas. Raises DataError."""
    labels = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(labels, (tuple, list)) or not all(isinstance(x, str) and x.strip() for x in labels):
        raise DataError(
            f"Expected a list of texts as the candidate labels at position {position}.", hint=_HINT
        )
    if not 1 <= len(labels) <= MOST:
        raise DataError(
            f"Expected 1 to {MOST:,} candidate labels at position {position}, received {len(labels):,}.",
            hint="Every label is one more run of the model: choose among groups of labels first."
            if labels
            else _HINT,
        )
    if len(set(labels)) < len(labels):
        first, again = next((labels.index(x), i) for i, x in enumerate(labels) if x in labels[:i])
        raise DataError(
            f"Expected different candidate labels at position {position}, received {first} and {again} of "
            "them equal.",
            hint="Leave one out: they would share one score.",
        )
    return list(labels)


def listed_labels(value: Json) -> Json:
    """Labels as a list where `value` is the text of one in JSON, else `value`. Raises DataError."""
    try:
        return json.loads(str(value)) if str(value).lstrip().startswith("[") else value
    except (TypeError, ValueError):
        raise DataError("Expected in candidate_labels a JSON list of texts, or labels with commas.") from None


def _check_template(template: str, position: int) -> None:
    """Raises DataError for a template that is not a text around {}, which may say nothing more."""
    try:
        fields = [x[1:] for x in Formatter().parse(template) if x[1] is not None]
    except ValueError:
        fields = []
    names = {name for name, _, _ in fields}
    plain = all(not spec and not conversion for _, spec, conversion in fields)
    if not plain or not (names == {"0"} or (names == {""} and len(fields) == 1)):
        raise DataError(
            f"Expected a hypothesis template with {{}} once, where the label goes, at position {position}, "
            f"received one with {len(fields)} fields.",
            hint=f"Such as {TEMPLATE!r}; braces that are text are written twice.",
        )
