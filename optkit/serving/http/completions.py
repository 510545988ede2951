"""`POST /v1/completions` as OpenAI's clients call it, for models that generate text.

Source: https://platform.openai.com/docs/api-reference/completions. What is not offered (log-probabilities,
penalties, the best of several) is refused where a request asks for it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from optkit.serving.http import openai
from optkit.serving.http.body import Body, record, timeout_of
from optkit.serving.http.generation import new_tokens
from optkit.serving.http.model_slot import Served
from optkit.serving.http.routes import Routes
from optkit.serving.http.settings import ServeSettings
from optkit.tasks.labelled import JsonType

PATH = "/v1/completions"
#: OpenAI's own default.
MAX_TOKENS = 16


class Choice(BaseModel):
    text: str
    index: int
    logprobs: None
    finish_reason: Literal["stop", "length"]


class Completions(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: openai.Usage


def body_of(names: tuple[str, ...], settings: ServeSettings) -> Body:
    text: JsonType = Annotated[str, StringConstraints(max_length=settings.max_text)]
    many: JsonType = Annotated[list[text], Field(min_length=1, max_length=settings.max_inputs)]
    kind = record(
        "CompletionsRequest",
        model=(Literal[names], ...),
        prompt=(text | many, ...),
        max_tokens=(new_tokens(settings), min(MAX_TOKENS, settings.max_new_tokens)),
        best_of=(Literal[1], 1),
        echo=(Literal[False], False),
        suffix=(None, None),
        logprobs=(None, None),
        **openai.fields(settings),
    )
    return Body(kind)


def routes(models: list[Served], settings: ServeSettings) -> Routes:
    routes = Routes(APIRouter(tags=["completions"]))
    known = {served.name: served for served in models if served.task.generates}
    if not known:
        return routes
    body = body_of(tuple(known), settings)

    @routes.way(PATH, body, list(known.values()), response_model=Completions, responses=openai.STREAMS)
    async def completions(request: Request) -> Response:
        timeout_s = timeout_of(request, settings.timeout_s)
        given = await body.read(request)
        served = known[given.model]
        prompts = [given.prompt] if isinstance(given.prompt, str) else given.prompt
        stated = not served.task.has_encoder or "max_tokens" in given.model_fields_set
        most = given.max_tokens if stated else None
        return await openai.respond(served, prompts, given, most, timeout_s, settings.max_inputs, _FORM)

    return routes


def _choice(text: str, end: str | None, index: int = 0) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": end}


_FORM = openai.Form("text_completion", "text_completion", "cmpl", _choice, _choice)
