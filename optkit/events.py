"""What a verb says of its progress while it runs. Every public verb takes `events`, a callable that hears it.

Step       a part of the work begins
Progress   where that part is
Note       one fact, in words
RowDone    a row of the report is complete
Scored     an epoch of training was scored
Answered   rows of a file were answered
Piece      a part of what a language model writes
Saved      what was made lies whole in its folder

>>> import optkit
>>> optkit.compress("ckpt", data="sst2", events=lambda event: print(event))  # doctest: +SKIP
Note(text='reading ckpt')

An exception that it raises ends the work, as Ctrl-C does: the same call then resumes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optkit.report.model import Row


@dataclass(frozen=True)
class Event:
    """The base of all events; its classes may grow fields, and there may be more of them."""


@dataclass(frozen=True)
class Step(Event):
    """A part of the work begins: the `index`-th, from 1, of `total`; both are 0 where nobody counts."""

    name: str
    index: int = 0
    total: int = 0


@dataclass(frozen=True)
class Progress(Event):
    """What is done at this moment, the `fraction` of it that is finished (0 to 1), and `seconds` so far."""

    text: str
    fraction: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Note(Event):
    """One fact worth a line: what is read, a score, what went wrong."""

    text: str


@dataclass(frozen=True)
class RowDone(Event):
    """A row of the report, with its verdict."""

    row: Row


@dataclass(frozen=True)
class Scored(Event):
    """The `score` on the validation split after `epoch` epochs, which may be a part of one."""

    epoch: float
    score: float


@dataclass(frozen=True)
class Answered(Event):
    """`rows` of `total` are answered, in `seconds`; the first one counts what an earlier run left."""

    rows: int
    total: int
    seconds: float


@dataclass(frozen=True)
class Piece(Event):
    """A prompt, or a part of what a language model writes after it, as it comes."""

    text: str


@dataclass(frozen=True)
class Saved(Event):
    """What was made lies whole in the folder `path`."""

    path: Path


Events = Callable[[Event], None]


def silent(event: Event) -> None:
    """Hear nothing: the default of `events`."""


def to_json(event: Event) -> dict[str, Any]:
    """`event` as a child process sends it to its parent."""
    return {"event": type(event).__name__, **asdict(event)}


def from_json(message: dict[str, Any]) -> Event:
    """What `to_json` wrote."""
    kinds: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}
    return kinds[message["event"]](**{name: value for name, value in message.items() if name != "event"})
