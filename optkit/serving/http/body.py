"""A request's JSON body, checked against a schema, and what it may hold for each task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    create_model,
)
from starlette.exceptions import HTTPException
from starlette.requests import Request

from optkit.core.reading import Json
from optkit.serving.http.settings import ServeSettings
from optkit.tasks.base import Task
from optkit.tasks.labelled import JsonType

_KIND = re.compile(r"(constrained-)?str|(list|dict|function-[\w-]+)\[.*|[A-Z]\w*")
#: Where FastAPI keeps the schemas that others refer to.
REFERENCES = "#/components/schemas/{model}"


class Refusal(BaseModel):
    """Every error that this server answers with."""

    error: str
    hint: str | None = None


def answers_of(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for its description."""
    meaning = {
        401: "The API key is missing or wrong",
        404: "No such model or version",
        408: "The body came too slowly",
        413: "The body is too large",
        415: "The body is no JSON",
        422: "The body does not fit the schema, or the model",
        429: "Too many requests wait; see Retry-After",
        503: "Not ready",
        504: "The deadline passed",
    }
    return {code: {"model": Refusal, "description": meaning[code]} for code in codes}


#: The refusals of every route that runs a model.
MODEL_REFUSALS = answers_of(401, 408, 413, 415, 422, 429, 504)


def _no_other_kind(value: Json) -> Json:
    """JSON's true and "1" are no numbers, though Python takes them for 1."""
    if isinstance(value, bool | str):
        raise ValueError(f"expected a number, received a {'boolean' if isinstance(value, bool) else 'text'}")
    return value


#: Numbers alone, where pydantic would make one of what is none.
NUMBER = BeforeValidator(_no_other_kind)
#: true or false alone.
FLAG = Annotated[bool, Field(strict=True)]


def record(name: str, /, **fields: Any) -> type[BaseModel]:
    """A pydantic class whose types are known at run time only: they hold this server's limits."""
    return create_model(name, **fields)


def one_input(task: Task, settings: ServeSettings) -> JsonType:
    """The type of one input of `task`, as JSON. A list is one text in its words, and as long as it."""
    longest = settings.max_text

    def check(value: Json) -> Json:
        length = len(" ".join(value)) if isinstance(value, list) else 0
        if length > longest:
            raise ValueError(f"Expected words of at most {longest} characters in all, received {length}")
        return value

    kind = task.json_type(Annotated[str, StringConstraints(max_length=longest)])
    if not isinstance(kind, Mapping):
        return Annotated[kind, AfterValidator(check)]
    title = "".join(part.title() for part in task.name.split("-"))
    may_lack = {field.name for field in task.takes if not field.required}
    kind = {n: record(f"{title}File", **p) if isinstance(p, Mapping) else p for n, p in kind.items()}
    parts: dict[str, Any] = {n: (p | None, None) if n in may_lack else (p, ...) for n, p in kind.items()}
    return record(f"{title}Input", **parts)


class Body:
    """A body of the type `kind`. `described()` is its part of the OpenAPI page."""

    def __init__(self, kind: JsonType) -> None:
        self.kind = kind
        self._adapter = TypeAdapter(kind)

    def described(self) -> dict[str, Any]:
        schema = self._adapter.json_schema(ref_template=REFERENCES)
        schema.pop("$defs", None)
        return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    def definitions(self) -> dict[str, Any]:
        return self._adapter.json_schema(ref_template=REFERENCES).get("$defs", {})

    async def read(self, request: Request) -> Any:
        """The body, checked. Raises HTTPException 415 or 422."""
        check_type(request, ("application/json",))
        return self.parse(await request.body())

    def parse(self, text: bytes) -> Any:
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            raise HTTPException(422, first_complaint(error)) from None


def check_type(request: Request, known: tuple[str, ...]) -> None:
    """Raises HTTPException 415 where the body is said to be of none of these types, or not in UTF-8.

    A page of a stranger may send text/plain and forms without asking; for other types a browser asks first.
    """
    given = request.headers.getlist("content-type") or [""]
    kind, *settings = (part.strip().lower() for part in given[0].split(";"))
    charset = [part.partition("=")[2].strip('"') for part in settings if part.startswith("charset=")]
    packed = request.headers.get("content-encoding", "identity").strip().lower() != "identity"
    if len(given) > 1 or kind not in known or set(charset) - {"utf-8", "utf8", "us-ascii"} or packed:
        raise HTTPException(415, f"Expected a body of the type {known[0]}, in UTF-8 and not compressed.")


def timeout_of(request: Request, most_s: float) -> float:
    """The request's own deadline in seconds, from the header X-Timeout-Ms; never above the server's."""
    given = request.headers.get("x-timeout-ms")
    if given is None:
        return most_s
    if not given.isascii() or not given.isdigit() or len(given) > 9 or int(given) == 0:
        raise HTTPException(422, "Expected X-Timeout-Ms in whole milliseconds.")
    return min(int(given) / 1000, most_s)


def first_complaint(error: ValidationError) -> str:
    """The first complaint and its place, without what was received: it is the user's.

    Where several kinds are taken each of them complains; one that says more than that it is another goes
    first, and their names are left out of the place.
    """
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    complaint, place = first, first["loc"][:-1]
    if first["type"].endswith("_type") and first["loc"] and _is_kind(first["loc"][-1]):
        alike = (x for x in others if x["loc"][: len(place)] == place and not x["type"].endswith("_type"))
        complaint = next(alike, first)
    parts = complaint["loc"]
    if complaint["type"] == "extra_forbidden" or parts[-1:] == ("[key]",):  # a name is the user's too
        parts = parts[: -1 - (parts[-1] == "[key]")]
    location = ".".join(str(part) for part in parts if not _is_kind(part))
    return f"{location}: {complaint['msg']}" if location else complaint["msg"]


def _is_kind(part: str | int) -> bool:
    """Whether this part of a place is pydantic's name for one of several kinds, no key of a body."""
    return isinstance(part, str) and _KIND.fullmatch(part) is not None
