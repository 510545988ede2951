"""The numbers that a person may set: one kind for each quantity, with what it is called and how far it goes.

The command line, the dataclasses of settings, passes and the schemas of files all ask here, so that NaN,
infinity, a fraction of a process or a number that no library bears is refused everywhere in the same words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeVar, cast

from optkit.errors import RecipeError

T = TypeVar("T")

#: Characters of a number that is read, and of one that is shown.
_LONGEST, _SHOWN = 1000, 60
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Quantity:
    """Numbers from `low` to `high`, without `low` where `above`, without `high` where `below`.

    >>> SEED.check(7, "seed"), SECONDS.parse("1.5", "--timeout"), DROP.percentage("5%", "--max-drop")
    (7, 1.5, 0.05)
    >>> SECONDS.parse("nan", "--timeout")
    Traceback (most recent call last):
    ...
    optkit.errors.RecipeError: Expected --timeout as seconds above 0, at most 1e+07, received 'nan'.
    """

    name: str
    low: float
    high: float
    whole: bool = False
    above: bool = False
    below: bool = False

    def __str__(self) -> str:
        low, high = (f"{x:,}" if self.whole else f"{x:g}" for x in (self.low, self.high))
        if not self.above and not self.below:
            return f"{self.name} from {low} to {high}"
        first, last = "above" if self.above else "from", "below" if self.below else "at most"
        return f"{self.name} {first} {low}, {last} {high}"

    def holds(self, value: object) -> bool:
        """Whether `value` is one of these numbers; true and false are none."""
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number = cast(float, value)
        if not math.isfinite(number):
            return False
        from_low = number > self.low if self.above else number >= self.low
        return bool(from_low and (number < self.high if self.below else number <= self.high))

    def check(self, value: T, name: str) -> T:
        """`value`, which was given as `name`. Raises RecipeError."""
        if not self.holds(value):
            raise self._refusal(value, name)
        return value

    def parse(self, text: object, name: str = "") -> Any:
        """The number that is written in `text`, which was given as `name`. Raises RecipeError."""
        value = cast(float, _number(text) if isinstance(text, str) else text)
        if not self.holds(value):
            raise self._refusal(text, name)
        return value if self.whole else float(value)

    def percentage(self, text: object, name: str, hint: str | None = None) -> float:
        """The share that is written in `text`, as in 5% or 0.05. Raises RecipeError with `hint`."""
        from decimal import Decimal  # its powers of ten are exact

        written = str(text).strip()
        digits = written.removesuffix("%").strip()
        value = _number(digits)
        if value is not None and digits != written:
            value = float(Decimal(digits).scaleb(-2))
        if value is None or not self.holds(value):
            raise self._refusal(text, name, " such as 5% or 0.05", hint)
        return float(value)

    def _refusal(self, value: object, name: str, such: str = "", hint: str | None = None) -> RecipeError:
        received = repr(value)
        if len(received) > _SHOWN:
            received = f"{received[:_SHOWN]}... ({len(received):,} characters)"
        asked = f"{name} as {self}" if name else str(self)
        return RecipeError(f"Expected {asked}{such}, received {received}.", hint)


def check_all(settings: object, quantities: Mapping[str, Quantity]) -> None:
    """Check those attributes of `settings` that are named, but for None. Raises RecipeError."""
    for name, quantity in quantities.items():
        if (value := getattr(settings, name)) is not None:
            quantity.check(value, name)


def listed(values: str | Sequence[str] | None) -> tuple[str, ...]:
    """A list, which may be written with commas; () where there is none.

    >>> listed("1x8,2x8"), listed(None)
    (('1x8', '2x8'), ())
    """
    return tuple(values.split(",") if isinstance(values, str) else values or ())


def _number(text: str) -> int | float | None:
    """The number that is written in `text`; None where there is none, or one of needless length."""
    text = text.strip()
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    return float(text) if "." in text or match[2] else int(text)


_LARGEST = 2**31 - 1

SECONDS = Quantity("seconds", 0, 1e7, above=True)
#: How long to wait, where 0 is at once or never.
PAUSE = Quantity("seconds", 0, 1e7)
MILLISECONDS = Quantity("milliseconds", 0, 1e7)
BOUND_MS = Quantity("milliseconds", 0, 1e7, above=True)
COUNT = Quantity("a whole number", 1, _LARGEST, whole=True)
COUNT_OR_NONE = Quantity("a whole number", 0, _LARGEST, whole=True)
#: Threads, processes, workers: each costs memory before the first of them works.
FEW = Quantity("a whole number", 1, 4096, whole=True)
BYTES = Quantity("bytes", 1, 2**40, whole=True)
TOKENS = Quantity("tokens", 1, 2**24, whole=True)
#: Of a text with its special tokens.
LENGTH = Quantity("tokens", 3, 2**24, whole=True)
PORT = Quantity("a port", 0, 65535, whole=True)
#: What numpy, torch and Optuna all take.
SEED = Quantity("a seed", 0, 2**32 - 1, whole=True)
#: A rank of adapters; 0: none.
RANK = Quantity("a rank", 0, 2**16, whole=True)
EPOCHS = Quantity("a number of epochs", 0, 1e6, above=True)
EPOCHS_OR_NONE = Quantity("a number of epochs", 0, 1e6)
RATE = Quantity("a rate", 0, 1e3, above=True)
RATE_OR_NONE = Quantity("a rate", 0, 1e3)
FACTOR = Quantity("a factor", 0, 1e6, above=True)
WEIGHT = Quantity("a weight", 0, 1e6)
TEMPERATURE = Quantity("a temperature", 0, 1e6)
PROBABILITY = Quantity("a probability", 0, 1, above=True)
#: A part of something that may be none of it, and is never all of it.
SHARE = Quantity("a share", 0, 1, below=True)
#: A part that is neither none nor all.
PART = Quantity("a share", 0, 1, above=True, below=True)
#: What may be lost.
DROP = Quantity("a share", 0, 1, below=True)
SLOWDOWN = Quantity("a share", 0, 10, above=True, below=True)
