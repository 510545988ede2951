"""What a request may ask of a model that generates text: the fields of `Generation`, bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from starlette.exceptions import HTTPException

from optkit.runtimes.generation import Generation
from optkit.serving.http.body import NUMBER, first_complaint
from optkit.serving.http.settings import ServeSettings
from optkit.tasks.base import Task
from optkit.tasks.labelled import JsonType

OPTIONS = frozenset(field.name for field in fields(Generation))


def new_tokens(settings: ServeSettings) -> JsonType:
    """The type of a number of tokens to write."""
    return Annotated[int, Field(ge=1, le=settings.max_new_tokens), NUMBER]


def parameters(settings: ServeSettings) -> type[BaseModel]:
    """The type of `parameters` in a request; the defaults are those of `Generation`, within the limit."""
    usual = Generation()
    parameters: dict[str, Any] = {
        "max_new_tokens": (new_tokens(settings), min(usual.max_new_tokens, settings.max_new_tokens)),
        "temperature": (Annotated[float, Field(ge=0, le=100), NUMBER], usual.temperature),
        "top_k": (Annotated[int, Field(ge=1), NUMBER] | None, usual.top_k),
        "top_p": (Annotated[float, Field(gt=0, le=1), NUMBER], usual.top_p),
        "seed": (Annotated[int, Field(ge=0, lt=2**63), NUMBER], usual.seed),
    }
    return create_model("GenerationParameters", __config__=ConfigDict(extra="forbid"), **parameters)


def asked(task: Task, given: BaseModel) -> dict[str, Any]:
    """The options in the `parameters` of a request to a model of `task`.

    What a request leaves open, the generation config of an encoder-decoder model says.
    """
    return given.model_dump(exclude_unset=task.has_encoder) if task.generates else {}


def options_among(task: Task, parameters: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `given` that are about generation, checked: other protocols keep more in the same place."""
    try:
        among = {name: value for name, value in given.items() if name in OPTIONS}
        return asked(task, TypeAdapter(parameters).validate_python(among, strict=True))
    except ValidationError as error:
        raise HTTPException(422, first_complaint(error)) from None
