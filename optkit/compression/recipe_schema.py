"""The JSON schema of recipe files: their tables, and every pass with what each of its fields takes."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, create_model

from optkit.core.schema import recipe as tables
from optkit.core.schema.base import Checked, numbers
from optkit.passes import PASSES
from optkit.passes.base import Pass
from optkit.passes.fields import quantity_of
from optkit.tasks.labelled import JsonType

URL = "https://json-schema.org/draft/2020-12/schema"


def published() -> dict[str, Any]:
    """The schema of a recipe, for editors and other tools."""
    passes = [_of_pass(cls) for _, cls in sorted(PASSES.items())]
    one: JsonType = Annotated[Union[tuple(passes)], Field(discriminator="name")]  # noqa: UP007
    fork: JsonType = create_model(
        "Alternatives",
        __base__=tables.Alternatives,
        any_of=(list[one | list[one]], tables.Alternatives.model_fields["any_of"]),
    )
    whole = create_model(
        "Recipe", __base__=tables.Recipe, steps=(list[one | fork], tables.Recipe.model_fields["steps"])
    )
    return {"$schema": URL, **whole.model_json_schema(by_alias=True)}


def _of_pass(cls: type[Pass]) -> type[BaseModel]:
    hints = typing.get_type_hints(cls)
    fields: dict[str, Any] = {
        f.name: (_type(f, hints[f.name]), Field(f.default, description=f.metadata["doc"]))
        for f in dataclasses.fields(cls)
    }
    config = ConfigDict(**Checked.model_config, title=cls.name(), protected_namespaces=())
    name: JsonType = Literal[cls.name()]
    model = create_model(
        cls.__name__,
        __config__=config,
        __doc__=cls.summary(),
        name=(name, Field(alias="pass")),
        **fields,
    )
    return model


def _type(f: dataclasses.Field[Any], hint: Any) -> JsonType:
    """What a field takes, as pydantic writes it."""
    if choices := f.metadata.get("choices"):
        return Literal[tuple(choices)]
    optional = typing.get_origin(hint) in (Union, types.UnionType)
    several = typing.get_origin(hint) is tuple
    quantity = quantity_of(f, hint)
    inner = next((k for k in typing.get_args(hint) if k not in (type(None), ...)), hint)
    one: JsonType = numbers(quantity) if quantity else inner
    return list[one] if several else one | None if optional else one
