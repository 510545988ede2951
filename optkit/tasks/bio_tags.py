"""Entities in tags: reading B-, I- and O, and comparing what was found with what is there.

Counts are those of CoNLL-2000's conlleval and of seqeval's default mode: an entity counts when its
type and both borders are right; an I- that continues nothing begins an entity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from optkit.errors import DataError
from optkit.tasks.label_scores import Line, scores

Span = tuple[str, int, int]


@lru_cache(maxsize=200_000)
def spans(tags: tuple[str, ...]) -> frozenset[Span]:
    """(type, first word, last word) of each entity.

    >>> sorted(spans(("B-person", "I-person", "O", "I-group")))
    [('group', 3, 3), ('person', 0, 1)]
    """
    entities, begun, label = [], 0, ""
    for i, tag in enumerate((*tags, "O")):
        prefix, _, name = tag.partition("-")
        if label and not (prefix == "I" and name == label):
            entities.append((label, begun, i - 1))
            label = ""
        if prefix in ("B", "I") and not label:
            begun, label = i, name
    return frozenset(entities)


def fault(tags: Sequence[str]) -> str | None:
    """What makes `tags` invalid BIO; None where they are valid.

    >>> fault(["O", "I-person"])
    "'I-person' at word 1 follows 'O'"
    """
    before = "O"
    for i, tag in enumerate(tags):
        prefix, dash, name = tag.partition("-")
        if tag != "O" and not (prefix in ("B", "I") and dash and name):
            return f"{tag!r} at word {i} is none of O, B-TYPE, I-TYPE"
        if prefix == "I" and before not in (f"B-{name}", f"I-{name}"):
            return f"{tag!r} at word {i} follows {before!r}"
        before = tag
    return None


def f1(answers: Iterable[frozenset[Span]], references: Iterable[frozenset[Span]]) -> float:
    """Micro-averaged F1 over entities; 0 where nothing is there and nothing was found."""
    right = predicted = support = 0
    for answer, truth in zip(answers, references):
        right += len(answer & truth)
        predicted += len(answer)
        support += len(truth)
    return 2 * right / (predicted + support) if predicted + support else 0.0


def table(answers: Sequence[frozenset[Span]], references: Sequence[frozenset[Span]]) -> list[Line]:
    """Precision, recall and F1 per type, then their micro, macro and weighted averages."""
    right: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    support: Counter[str] = Counter()
    for answer, truth in zip(answers, references):
        right.update(kind for kind, *_ in answer & truth)
        predicted.update(kind for kind, *_ in answer)
        support.update(kind for kind, *_ in truth)
    return scores(right, predicted, support)


def is_bio(labels: Sequence[str]) -> bool:
    """Whether these are tags of entities: O, and B- or I- for every other."""
    return any(x[:2] in ("B-", "I-") for x in labels) and all(
        x == "O" or x[:2] in ("B-", "I-") for x in labels
    )


def check_lengths(words: object, tags: object, row: int) -> None:
    """Raise DataError where a row has no list of words with a tag for each."""
    if not isinstance(words, list) or not isinstance(tags, list):
        raise DataError(f"Expected lists of words and tags in row {row}, received {words!r} and {tags!r}.")
    if len(words) != len(tags):
        raise DataError(
            f"Expected a tag per word in row {row}, received {len(words)} words, {len(tags)} tags."
        )


def check_bio(tags: Sequence[str], row: int) -> None:
    """Raise DataError where the tags of a row are no valid BIO."""
    if problem := fault(tags):
        raise DataError(
            f"The tags in row {row} are not valid BIO: {problem}.",
            hint="An entity begins with B-TYPE and goes on with I-TYPE of the same type.",
        )


def labels_of_tags(tags: Mapping[str, int]) -> list[str]:
    """The labels of a model for these tags, each with its first row: O first, and an I- for every B-.

    Raises DataError for a tag that is no BIO among tags that are.
    """
    known = dict(tags)
    if any(tag.startswith(("B-", "I-")) for tag in known):
        _refuse_other_schemes(known)
    for tag in [tag for tag in known if tag.startswith("B-")]:
        known.setdefault(f"I-{tag[2:]}", -1)  # entities of this type are single words in this split
    if all(tag.isdecimal() for tag in known):  # by size, as the numbers of classes are
        return sorted(known, key=int)
    return sorted(known, key=lambda tag: (tag != "O", tag[2:] if "-" in tag else tag, tag))


def _refuse_other_schemes(tags: dict[str, int]) -> None:
    """DataError for a tag that is no BIO among tags that are."""
    for tag, row in tags.items():
        if not is_bio(["B-x", tag]):
            raise DataError(
                f"The tag {tag!r} in row {row} is not BIO, as the others are: O, B-TYPE, I-TYPE.",
                hint="Write S-TYPE as B-TYPE and E-TYPE as I-TYPE.",
            )
