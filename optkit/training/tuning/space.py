"""`Space`: what a study varies, one `Dimension` per name, as in `learning_rate=loguniform(1e-5,1e-3)`."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.core.reading import read_text
from optkit.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    import optuna


#: A value that a dimension can take, as Optuna's storages keep it.
Value = None | bool | int | float | str
KINDS = ("choice", "uniform", "loguniform", "int")
#: A range without a step is cut into so many values for the grid sampler: its ends and its middle.
GRID_POINTS = 3
#: Values of a range with steps: each is tried before a study begins.
MOST_POINTS = 100_000
_FORMS = "choice(A,B,...), uniform(LOW,HIGH[,STEP]), loguniform(LOW,HIGH), int(LOW,HIGH[,STEP]) or one value"
_WORDS: dict[str, Value] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Dimension:
    """One axis: `choices`, or numbers from `low` to `high` in steps of `step` (None: any between).

    >>> Dimension.parse("loguniform(1e-5, 1e-3)"), str(Dimension.parse("16,32"))
    (Dimension(kind='loguniform', low=1e-05, high=0.001, step=None, choices=()), 'choice(16,32)')
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    choices: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "choice":
            if not self.choices or len(set(map(repr, self.choices))) < len(self.choices):
                raise RecipeError(f"Expected different choices, received {self}.")
            return
        bounds = (self.low, self.high, 1.0 if self.step is None else self.step)
        if not all(map(math.isfinite, bounds)) or not self.low < self.high or bounds[2] <= 0:
            raise RecipeError(f"Expected a range from a lower to a higher number, received {self}.")
        steps = (self.high - self.low) / bounds[2]
        if (self.step or self.kind == "int") and not steps < MOST_POINTS:
            raise RecipeError(f"Expected a range of at most {MOST_POINTS:,} values, received {self}.")
        if self.kind == "loguniform" and self.low <= 0:
            raise RecipeError(f"Expected a range above 0 for loguniform, received {self}.")
        if self.kind == "int" and any(bound != int(bound) for bound in bounds):
            raise RecipeError(f"Expected whole numbers, received {self}.")

    @classmethod
    def parse(cls, text: str) -> Dimension:
        """Raises RecipeError that lists the forms there are."""
        match = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", text, re.DOTALL)
        kind, inner = match.groups() if match else ("choice", text)
        if kind not in KINDS:
            raise RecipeError(f"Unknown range {kind!r} in {text!r}.", hint=did_you_mean(kind, KINDS))
        values = [_value(part) for part in inner.split(",")]
        if kind == "choice":
            return cls(kind, choices=tuple(values))
        numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if len(numbers) < len(values) or len(numbers) not in ((2, 3) if kind != "loguniform" else (2,)):
            raise RecipeError(f"Expected {_FORMS}; received {text!r}.")
        return cls(kind, float(numbers[0]), float(numbers[1]), float(numbers[2]) if numbers[2:] else None)

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """Ask Optuna's `trial` for a value."""
        if self.kind == "choice":
            return trial.suggest_categorical(name, list(self.choices))
        if self.kind == "int":
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1))
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.kind == "loguniform")

    def points(self) -> list[Value]:
        """All values, or a few where there is no end of them: what a grid tries."""
        if self.kind == "choice":
            return list(self.choices)
        if self.kind == "int" or self.step:
            step = self.step or 1.0
            count = math.floor((self.high - self.low) / step + 1e-9) + 1
            values = [self.low + i * step for i in range(count)]
            return [int(v) for v in values] if self.kind == "int" else [round(v, 12) for v in values]
        shares = [i / (GRID_POINTS - 1) for i in range(GRID_POINTS)]
        if self.kind == "loguniform":
            return [self.low ** (1 - s) * self.high**s for s in shares]
        return [self.low + s * (self.high - self.low) for s in shares]

    @property
    def is_range(self) -> bool:
        return self.kind != "choice"

    def __str__(self) -> str:
        if self.kind == "choice":
            return f"choice({','.join(_text(c) for c in self.choices)})"
        numbers = [self.low, self.high, *([self.step] if self.step else [])]
        return f"{self.kind}({','.join(f'{n:.12g}' for n in numbers)})"


@dataclass(frozen=True)
class Space:
    """Name → dimension, in the order in which they are asked."""

    dimensions: Mapping[str, Dimension]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Space:
        """From `NAME=FORM` each, or the path of a TOML file with such pairs; a later name wins.

        >>> Space.parse(["batch=16,32", "epochs=int(2,4)"]).to_dict()
        {'batch': 'choice(16,32)', 'epochs': 'int(2,4)'}
        """
        dimensions: dict[str, Dimension] = {}
        for text in texts:
            name, equals, form = text.partition("=")
            if text.endswith(".toml") and "(" not in text:
                dimensions |= _from_file(Path(text))
            elif not equals or not name.strip() or not form.strip():
                raise RecipeError(
                    f"Expected NAME=FORM or a .toml file for --space, received {text!r}.",
                    hint=f"The forms are {_FORMS}.",
                )
            else:
                dimensions[name.strip()] = Dimension.parse(form)
        if not dimensions:
            raise RecipeError("Expected at least one name in the space, received none.")
        return cls(dimensions)

    def check(self, known: Iterable[str], accepts: Callable[[str, Value], object]) -> None:
        """Refuse a name that is not among `known`, and a range with a value that `accepts` refuses."""
        known = list(known)
        for name, dimension in self.dimensions.items():
            if name not in known:
                raise RecipeError(f"Unknown name {name!r} in the space.", hint=did_you_mean(name, known))
            for value in dimension.points():
                try:
                    accepts(name, value)
                except RecipeError as error:
                    raise RecipeError(f"The space has {name}={dimension}: {error}", error.hint) from error

    def to_dict(self) -> dict[str, str]:
        return {name: str(dimension) for name, dimension in self.dimensions.items()}


def _from_file(file: Path) -> dict[str, Dimension]:
    """`name = "uniform(0,1)"`, `name = [1, 2]` or `name = 3` in each line."""
    try:
        table = tomllib.loads(read_text(file, ValueError, most=2**20))
    except (ValueError, RecursionError) as reason:
        raise RecipeError(f"Cannot read the space {str(file)!r}: {reason}.") from reason
    space = {}
    for name, value in _flat(table).items():
        if isinstance(value, str):
            space[name] = Dimension.parse(value)
        else:
            space[name] = Dimension("choice", choices=tuple(value if isinstance(value, list) else [value]))
    return space


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`[prune]` with `share` in it is `prune.share`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _value(text: str) -> Value:
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    if not text:
        raise RecipeError(f"Expected a value between the commas; the forms are {_FORMS}.")
    return text.strip("\"'")


def _text(value: Value) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
