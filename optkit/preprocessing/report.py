"""`Tally`: what the report says of the data, counted row by row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from optkit.preprocessing.settings import Settings
from optkit.tasks.base import BETWEEN

#: Upper ends of the bins of the histogram of lengths, in words (white space between), and the rest.
BINS = (8, 16, 32, 64, 128, 256, 512)
EXAMPLES = 20


def fingerprint(text: str) -> bytes:
    """What stands for `text` among those that were seen: 16 bytes, however long it is."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True)
class Conflict:
    """A text (its first 200 characters) that occurs with different labels."""

    text: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Skipped:
    """A line, row or record that could not be read, and why."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class Preprocessed:
    """What `preprocess` left in the folder `path`, as preprocessing.json there says it.

    Counts are by split where they are mappings: `rows`, `labels` (split → label → count), `truncated` (texts
    beyond the limit of `model`). `settings` names the columns read. `conflicts` has the first of the
    `conflicting` texts; `duplicates_between_splits` is by the names of both splits.
    """

    path: Path
    settings: Settings
    rows: dict[str, int]
    labels: dict[str, dict[str, int]]
    rows_without_label: dict[str, int]
    questions_without_answer: dict[str, int]
    lengths_in_words: dict[str, int]
    empty_texts: int
    duplicates: int
    duplicates_between_splits: dict[str, int]
    conflicting: int
    conflicts: tuple[Conflict, ...]
    truncated: dict[str, int]
    skipped: tuple[Skipped, ...]

    @classmethod
    def of(cls, path: Path, report: Mapping[str, Any], settings: Settings) -> Preprocessed:
        """From the contents of preprocessing.json, which was written by `settings`."""
        same = {f.name: report[f.name] for f in fields(cls) if f.name in report}
        conflicts = report["conflicting_labels"]
        typed = {
            "path": path,
            "settings": settings,
            "conflicting": conflicts["count"],
            "conflicts": tuple(Conflict(x["text"], tuple(x["labels"])) for x in conflicts["examples"]),
            "skipped": tuple(Skipped(**x) for x in report["skipped"]),
        }
        return cls(**{**same, **typed})


@dataclass
class Tally:
    """Counts over all splits. Memory: 16 bytes of hash per different text, and Python's overhead."""

    rows: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    lengths: Counter[str] = field(default_factory=Counter)
    unlabelled: Counter[str] = field(default_factory=Counter)
    unanswered: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    duplicates: int = 0
    between: Counter[str] = field(default_factory=Counter)
    conflicts: list[Conflict] = field(default_factory=list)
    conflicting: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    truncated: Counter[str] = field(default_factory=Counter)
    _seen: dict[bytes, tuple[str, str]] = field(default_factory=dict)

    def seen(self, text: str, split: str, label: str) -> bool:
        """Note `text`; whether it was there before, in any split."""
        key = fingerprint(text)
        if key not in self._seen:
            self._seen[key] = (split, label)
            return False
        first, other = self._seen[key]
        self.duplicates += 1
        if first != split:
            self.between[f"{first}, {split}"] += 1
        if other != label:
            self.conflicting += 1
            if len(self.conflicts) < EXAMPLES:
                self.conflicts.append(Conflict(text.replace("\0", BETWEEN)[:200], (other, label)))
        return True

    def add(self, text: str, split: str, labels: list[str]) -> None:
        """Count one row that is written."""
        self.rows[split] += 1
        self.labels[split].update(labels)
        count = len(text.split())
        self.lengths[next((f"<= {b}" for b in BINS if count <= b), f"> {BINS[-1]}")] += 1

    def to_dict(self) -> dict[str, Any]:
        order = [*(f"<= {b}" for b in BINS), f"> {BINS[-1]}"]
        return {
            "rows": dict(self.rows),
            "labels": {split: dict(sorted(counts.items())) for split, counts in self.labels.items()},
            "rows_without_label": dict(self.unlabelled),
            "questions_without_answer": dict(self.unanswered),
            "lengths_in_words": {name: self.lengths[name] for name in order},
            "empty_texts": self.empty,
            "duplicates": self.duplicates,
            "duplicates_between_splits": dict(self.between),
            "conflicting_labels": {
                "count": self.conflicting,
                "examples": [{"text": x.text, "labels": list(x.labels)} for x in self.conflicts],
            },
            "truncated": dict(self.truncated),
            "skipped": [asdict(x) for x in self.skipped],
        }


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    lines = ["# Preprocessed data", ""]
    for title, section in report.items():
        lines.append(f"## {title.replace('_', ' ')}\n")
        if isinstance(section, dict):
            lines += [f"- {key}: {value}" for key, value in section.items()] or ["- none"]
        elif isinstance(section, list):
            lines += [f"- {value}" for value in section] or ["- none"]
        else:
            lines.append(f"{section}")
        lines.append("")
    return "\n".join(lines)
