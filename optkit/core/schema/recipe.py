"""A recipe file: its tables and their types. What each pass takes is added by
`optkit.compression.recipe_schema`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from optkit.core.quantities import DROP, FACTOR, PART
from optkit.core.schema.base import Checked, Known, Word, numbers

_PERCENTAGE = r"^\s*[0-9.]+(e-?[0-9]+)?\s*%?\s*$"
Percentage = Annotated[str, Field(max_length=1000, pattern=_PERCENTAGE)]


class Gate(Checked):
    """What a candidate must keep to be chosen."""

    max_drop: Percentage | numbers(DROP) | None = Field(  # type: ignore[valid-type]
        "1%", description="most the score may drop: 1% (relative) or 0.01 (absolute)"
    )
    min_speedup: numbers(FACTOR) | None = Field(  # type: ignore[valid-type]
        None, description="least speedup over torch fp32, at the lower end of its interval"
    )
    batch_invariant: bool = Field(False, description="an answer may not depend on the texts in its batch")
    min_agreement: Percentage | numbers(PART) | None = Field(  # type: ignore[valid-type]
        None, description="least share of answers equal to the model's own, for certain"
    )


class Step(Known):
    """A pass with its fields."""

    name: Word = Field(alias="pass", description="name of the pass")


class Alternatives(Checked):
    """Passes, or chains of them, tried from the same point: the fastest that passes the gate is kept."""

    any_of: list[Step | list[Step]] = Field(min_length=1, max_length=100)


class Recipe(Checked):
    """A recipe of optkit."""

    target: str = Field(
        "cpu", description="where the model will serve", json_schema_extra={"enum": ["cpu", "cuda"]}
    )
    gate: Gate = Field(default_factory=lambda: Gate.model_validate({}))
    steps: list[Step | Alternatives] = Field(min_length=1, max_length=100)
