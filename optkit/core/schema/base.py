"""What all schemas share: strict models, types for names and texts, and one translation of errors.

A file is checked as a whole when it is opened; afterwards nothing meets a value of a wrong type, a number
that is not finite, or a name that could leave its folder or its line.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from optkit.core.files import CONTROL
from optkit.core.quantities import Quantity

_PART = re.compile(r"[\w.+=@ -]{1,255}")
_SHOWN = 80


def _line(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("a text without control characters")
    return text


def _relative(name: str) -> str:
    parts = name.split("/")
    if any(not _PART.fullmatch(part) or part.strip(" ") in ("", ".", "..") for part in parts):
        raise ValueError("a plain relative name such as model.onnx or 1_Pooling/config.json")
    return name


#: One line of text that a terminal, a log or a file can bear.
Line = Annotated[str, Field(max_length=10_000), AfterValidator(_line)]
#: A name that optkit itself gives: a pass, a precision, a runtime.
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}$")]
#: The path of a file inside of its folder.
FileName = Annotated[str, Field(max_length=1000), AfterValidator(_relative)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: How many of anything: tokens, layers, bytes.
Count = Annotated[int, Field(ge=0, lt=2**53)]
Number = Annotated[float, Field(allow_inf_nan=False)]


def numbers(quantity: Quantity) -> Any:
    """The type of a key that holds one of `quantity`."""
    bounds: dict[str, Any] = {
        "gt" if quantity.above else "ge": quantity.low,
        "lt" if quantity.below else "le": quantity.high,
    }
    return Annotated[int if quantity.whole else float, Field(**bounds, allow_inf_nan=False)]


#: A model is built where it is first used, or all of them would be where one is: .4 s.
_STRICT = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True, defer_build=True)


class _Schema(BaseModel):
    """Built without pydantic's plugins, wherever it is first used."""

    @classmethod
    def model_rebuild(cls, *, _parent_namespace_depth: int = 2, **options: Any) -> bool | None:
        with without_plugins():
            return super().model_rebuild(_parent_namespace_depth=_parent_namespace_depth + 1, **options)


class Checked(_Schema):
    """A file or a part of one, of which every key is known."""

    model_config = ConfigDict(**_STRICT, extra="forbid")


class Known(_Schema):
    """A file of another library's, of which optkit reads these keys."""

    model_config = ConfigDict(**_STRICT, extra="allow")


_BUILDING = threading.RLock()
_NO_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


def check(model: type[M], value: object, file: object, error: type[Exception], hint: str | None = None) -> M:
    """`value`, read from `file`, as a `model`. Raises `error`: what was expected where, and received."""
    with _told(file, error, hint):
        return model.model_validate(value)


def check_value(adapter: TypeAdapter[T], value: object, file: object, error: type[Exception]) -> T:
    """The same for a value that is no object with known keys."""
    if not adapter.pydantic_complete:
        with without_plugins():
            adapter.rebuild()
    with _told(file, error):
        return adapter.validate_python(value)


def check_json(adapter: TypeAdapter[T], text: str, file: object, error: type[Exception], hint: str) -> T:
    """The same for JSON text, which dataclasses are read from."""
    with _told(file, error, hint):
        return adapter.validate_json(text, strict=True)


@contextmanager
def without_plugins() -> Iterator[None]:
    """Validators that are built in here call no plugins of pydantic's.

    To look for plugins, pydantic reads the metadata of every package that is installed (.05 s), and one may
    send what it sees to its maker. They are for the caller's own models. One thread at a time: the variable
    that says so is the process's.
    """
    with _BUILDING:
        before = os.environ.get(_NO_PLUGINS)
        os.environ[_NO_PLUGINS] = "__all__"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_NO_PLUGINS]
            else:
                os.environ[_NO_PLUGINS] = before


@contextmanager
def _told(file: object, error: type[Exception], hint: str | None = None) -> Iterator[None]:
    """pydantic's error as `error`."""
    try:
        yield
    except ValidationError as reason:
        raise translated(reason, file, error, hint) from reason


def translated(
    reason: ValidationError, file: object, error: type[Exception], hint: str | None = None
) -> Exception:
    """The first of the errors in one line, and how many more there are."""
    errors = reason.errors(include_url=False, include_context=False)
    first, more = errors[0], len(errors) - 1
    place, said = _place(first["loc"]), first["msg"]
    received = repr(first["input"])
    if len(received) > _SHOWN:
        received = f"{received[:_SHOWN]}... ({type(first['input']).__name__})"
    at = f" at {place}" if place else ""
    if first["type"] == "missing":
        text = f"Expected the key {place} in {str(file)!r}; it is missing"
    elif first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        text = f"Unknown key {place} in {str(file)!r}"
    else:
        said = re.sub(r"^(Value error, |Assertion failed, )", "", said)
        said = re.sub(r"^Input should be ", "", said)
        said = said[0].lower() + said[1:]
        text = f"Expected {said}{at} in {str(file)!r}, received {received}"
    text += f" (and {more} more)." if more else "."
    return error(text, hint) if hint else error(text)


def _place(location: Iterable[int | str]) -> str:
    """The way to a value, as in lineage[0].notes. What a stranger named is shown as `repr` shows it."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part if re.fullmatch(r"[\w-]+", part) and len(part) < _SHOWN else repr(part[:_SHOWN])
            text += f".{plain}" if text else plain
    return text
