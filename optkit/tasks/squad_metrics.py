"""SQuAD's metrics, as evaluate-v1.1.py (Rajpurkar et al. 2016) and evaluate-v2.0.py (2018) count them.

The second knows questions without an answer: they are right where none is given.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optkit.errors import DataError

_PUNCTUATION = frozenset(string.punctuation)
#: Lines of the table: questions that have an answer, that have none, and both.
HAS_ANSWER, NO_ANSWER, ALL = "HasAns", "NoAns", "all"

#: What a row's answer may be: texts of the context, and where each begins; none for a question without one.
Reference = dict[str, list[Any]]


@dataclass(frozen=True)
class Line:
    """One line of the table; shares from 0 to 1, `no_answer` and `support` count questions.

    `no_answer` are those that the model gave no answer to.
    """

    label: str
    exact_match: float
    f1: float
    no_answer: int
    support: int


def normalize(text: str) -> str:
    """Lower case, without punctuation, articles and extra spaces, as the official script does it.

    >>> normalize("The  Eiffel Tower!")
    'eiffel tower'
    """
    bare = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def exact_match(answer: str, truth: str) -> bool:
    return normalize(answer) == normalize(truth)


def f1(answer: str, truth: str) -> float:
    """The harmonic mean of precision and recall over words in common."""
    answered, expected = normalize(answer).split(), normalize(truth).split()
    same = sum((Counter(answered) & Counter(expected)).values())
    return 2 * same / (len(answered) + len(expected)) if same else 0.0


def outcomes(
    answers: Iterable[str], references: Sequence[Reference], metric: str, may_lack: bool = True
) -> np.ndarray:
    """The metric of each example: right or wrong, or the share of words in common with the best answer.

    As evaluate-v2.0.py counts; where questions always have an answer (not `may_lack`), as v1.1.
    """
    one = exact_match if metric == "exact_match" else f1
    scores = []
    for answer, reference in zip(answers, references):
        # v2.0 passes over an answer of articles and signs alone.
        truths = [t for t in reference["text"] if normalize(t) or not may_lack]
        scores.append(max(one(answer, t) for t in truths) if truths else normalize(answer) == "")
    return np.array(scores, dtype=bool if metric == "exact_match" else np.float64)


def table(answers: Iterable[str], references: Sequence[Reference]) -> list[Line]:
    """Each metric over the questions with an answer, those without, and all."""
    has = np.array([bool(reference["text"]) for reference in references], dtype=bool)
    refused = np.array([answer == "" for answer in answers], dtype=bool)
    exact, shared = (outcomes(answers, references, m).astype(float) for m in ("exact_match", "f1"))
    parts = ((HAS_ANSWER, has), (NO_ANSWER, ~has), (ALL, np.ones(len(has), dtype=bool)))
    return [
        Line(
            name,
            float(exact[part].mean()),
            float(shared[part].mean()),
            int(refused[part].sum()),
            int(part.sum()),
        )
        for name, part in parts
        if part.any()
    ]


def doubts(model: str, lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader of such a table should know of the questions and of `model`."""
    parts = {x["label"]: x for x in lines}
    if ALL not in parts:
        return []
    has, none, every = parts.get(HAS_ANSWER), parts.get(NO_ANSWER), parts[ALL]
    if none is None:
        text = "No question of this split lacks an answer: whether the model finds none where there is none"
        return [f"{text} was not measured."]
    if has is None:
        return ["Every question of this split lacks an answer: a model that never answers would score 1."]
    if every["no_answer"] == every["support"]:
        return [
            f"{model} answers none of the {every['support']} questions: its threshold refuses all, and the "
            f"score is the share of those that have no answer."
        ]
    if not none["no_answer"]:
        return [f"{model} answers each of the {none['support']} questions that have no answer."]
    return []


def best_threshold(over: np.ndarray, given: np.ndarray, none: np.ndarray) -> float:
    """The threshold with the largest total, above which no answer is given.

    `over` (questions,): by how much no answer exceeds the best span; `given` and `none`: the outcomes of that
    span and of no answer. It lies halfway between two questions; of equal ones it is the lowest, as in
    evaluate-v2.0.py.

    >>> best_threshold(np.array([1.0, 3.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    2.0
    """
    over = np.clip(over, -1e5, 1e5)
    order = np.argsort(over, kind="stable")
    totals = np.concatenate([[none.sum()], none.sum() + np.cumsum((given - none)[order])])
    edges = np.concatenate([[over.min() - 1], over[order], [over.max() + 1]])
    between = np.diff(edges) > 0  # equal ones are answered alike
    best = int(np.argmax(np.where(between, totals, -np.inf)))
    return float((edges[best] + edges[best + 1]) / 2)


def checked_answers(value: Any, context: str, row: int, hint: str = "") -> Reference:
    """`{"text": [...], "answer_start": [...]}` of a row. DataError where the context lacks the text.

    With a `hint` it has to have an answer, which says what to do where it has none.
    """
    try:
        texts, starts = list(value["text"]), [int(start) for start in value["answer_start"]]
    except (TypeError, KeyError, ValueError):
        raise DataError(
            f"Expected the answers of row {row} as a mapping of the lists text and answer_start, "
            f"received {value!r}.",
            hint="For a question without an answer both lists are empty.",
        ) from None
    if (hint and not texts) or len(texts) != len(starts):
        raise DataError(
            f"Expected at least one answer with its start in row {row}, received {len(texts)} answers and "
            f"{len(starts)} starts.",
            hint=hint or "For a question without an answer both lists are empty.",
        )
    for text, start in zip(texts, starts):
        if not text or start < 0 or context[start : start + len(text)] != text:
            raise DataError(
                f"Expected the answer {text!r} at character {start} of the context in row {row}, found "
                f"{context[max(start, 0) : max(start, 0) + len(text)]!r}.",
                hint="answer_start counts characters (not bytes or words) from 0; a question without an "
                "answer has empty lists.",
            )
    return {"text": texts, "answer_start": starts}
