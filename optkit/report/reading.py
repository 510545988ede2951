"""JSON → the dataclasses of a report, checked as a whole: where a number has no value, null is NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar, TypeVar

from optkit.errors import DataError

HINT = "Run the command that wrote it again."
T = TypeVar("T")


class Closed:
    """A dataclass of which every key is known: another one is refused."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


class Open:
    """A dataclass that leaves out what another version of optkit says besides."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "ignore"}


class _NullIsNaN:
    """JSON has no NaN: it is written as null."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(
            lambda value: math.nan if value is None else value, handler(source)
        )


#: A number that may have no value, NaN.
Number = Annotated[float, _NullIsNaN]


def from_json(cls: type[T], value: object, name: str) -> T:
    """`value`, read from `name`, as the dataclass `cls`.

    Raises DataError where a field is missing, unknown or malformed.
    """
    from pydantic import TypeAdapter

    from optkit.core.schema.base import check_json, without_plugins
    from optkit.core.schema.report import LARGEST

    with without_plugins():
        adapter = TypeAdapter(cls)
    check_json(adapter, encodable(value), name, DataError, HINT)  # strictly: no number is read from a text
    largest = max((abs(x) for x in _all_numbers(value) if math.isfinite(x)), default=0)
    if largest > LARGEST:
        raise DataError(f"Expected figures of at most {LARGEST:g} in {name!r}, received {largest:g}.", HINT)
    return adapter.validate_python(value)


def encodable(value: object) -> str:
    """`value` as JSON without halves of surrogate pairs, which names of files may hold."""
    return json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()


def _all_numbers(value: object) -> Iterable[float]:
    waiting: list[object] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, (int, float)):
            yield item
        elif isinstance(item, (dict, list)):
            waiting += item.values() if isinstance(item, dict) else item
