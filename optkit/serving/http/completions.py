"""`POST /v1/completions` as OpenAI's clients call it, for models that generate text.

Source: https://platform.openai.com/docs/api-reference/completions. What is not offered (several choices, stop
sequences, log-probabilities, penalties) is refused where a request asks for it.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from optkit.serving.http.body import FLAG, NUMBER, Body, record, timeout_of
from optkit.serving.http.errors import answer_to
from optkit.serving.http.generation import new_tokens
from optkit.serving.http.model_slot import Served
from optkit.serving.http.routes import Routes
from optkit.serving.http.settings import ServeSettings
from optkit.tasks.labelled import Answer, JsonType

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PATH = "/v1/completions"
#: OpenAI's own defaults.
MAX_TOKENS, TEMPERATURE = 16, 1.0
#: OpenAI's words for how a text ended.
ENDS = {"end": "stop", "length": "length"}
#: Options of generation that OpenAI calls otherwise.
_NAMES = {"max_new_tokens": "max_tokens"}
#: One server-sent event, as OpenAPI 3.2 describes an item of a stream.
EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}


class Choice(BaseModel):
    text: str
    index: int
    logprobs: None
    finish_reason: Literal["stop", "length"]


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completions(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


def body_of(names: tuple[str, ...], settings: ServeSettings) -> Body:
    text: JsonType = Annotated[str, StringConstraints(max_length=settings.max_text)]
    many: JsonType = Annotated[list[text], Field(min_length=1, max_length=settings.max_inputs)]
    kind = record(
        "CompletionsRequest",
        model=(Literal[names], ...),
        prompt=(text | many, ...),
        max_tokens=(new_tokens(settings), min(MAX_TOKENS, settings.max_new_tokens)),
        temperature=(Annotated[float, Field(ge=0, le=2), NUMBER], TEMPERATURE),
        top_p=(Annotated[float, Field(gt=0, le=1), NUMBER], 1.0),
        seed=(Annotated[int, Field(ge=0, lt=2**63), NUMBER] | None, None),
        n=(Literal[1], 1),
        best_of=(Literal[1], 1),
        stream=(FLAG, False),
        stream_options=(record("StreamOptions", include_usage=(Literal[True], ...)) | None, None),
        echo=(Literal[False], False),
        stop=(None, None),
        suffix=(None, None),
        logprobs=(None, None),
        logit_bias=(None, None),
        presence_penalty=(Literal[0], 0),
        frequency_penalty=(Literal[0], 0),
    )
    return Body(kind)


def routes(models: list[Served], settings: ServeSettings) -> Routes:
    routes = Routes(APIRouter(tags=["completions"]))
    known = {served.name: served for served in models if served.task.generates}
    if not known:
        return routes
    body = body_of(tuple(known), settings)

    @routes.way(
        PATH,
        body,
        list(known.values()),
        response_model=Completions,
        responses={200: {"content": {"text/event-stream": {"schema": EVENT}}}},
    )
    async def completions(request: Request) -> Response:
        timeout_s = timeout_of(request, settings.timeout_s)
        given = await body.read(request)
        prompts = [given.prompt] if isinstance(given.prompt, str) else given.prompt
        options = {
            "max_new_tokens": given.max_tokens,
            "temperature": given.temperature,
            "top_p": given.top_p,
            "seed": _seed(given),
        }
        served = known[given.model]
        if served.task.has_encoder:  # its generation config says what a request leaves open
            options = {n: v for n, v in options.items() if _NAMES.get(n, n) in given.model_fields_set}
        if given.stream:
            if len(prompts) > 1:
                raise HTTPException(422, f"One prompt can be streamed, received {len(prompts)}.")
            pieces = served.write(prompts[0], timeout_s, options)
            first = await anext(pieces)  # what is wrong with a prompt is said before there is a status
            return Events(_events(_head(given.model), first, pieces, bool(given.stream_options)))
        answers, _ = await served.answer(prompts, timeout_s, options)
        choices = [_choice(a.text, i, ENDS[a.finished]) for i, a in enumerate(answers)]
        return JSONResponse({**_head(given.model), "choices": choices, "usage": _usage(answers)})

    return routes


class Events(StreamingResponse):
    """Server-sent events; what makes them ends when the client goes."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().__call__(scope, receive, send)


def _seed(given: Any) -> int:
    """A greedy text draws nothing: requests for one share a batch only where their seeds are equal too."""
    if given.temperature == 0:
        return 0
    return secrets.randbelow(2**31) if given.seed is None else given.seed


async def _events(
    head: dict[str, Any], first: Answer, pieces: AsyncGenerator[Answer, None], with_usage: bool
) -> AsyncIterator[str]:
    """A piece each, then how the text ended, what it took if that was asked for, and the end."""
    piece = first
    async with aclosing(pieces):
        try:
            while isinstance(piece, str):
                yield _event({**head, "choices": [_choice(piece)]})
                piece = await anext(pieces)
        except Exception as error:  # the status is sent already
            yield f"data: {bytes(answer_to(error).body).decode()}\n\n"
            return
    yield _event({**head, "choices": [_choice("", end=ENDS[piece.finished])]})
    if with_usage:
        yield _event({**head, "choices": [], "usage": _usage([piece])})
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _head(model: str) -> dict[str, Any]:
    number = uuid.uuid4().hex
    return {"id": f"cmpl-{number}", "object": "text_completion", "created": int(time.time()), "model": model}


def _choice(text: str, index: int = 0, end: str | None = None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": end}


def _usage(answers: Sequence[Answer]) -> dict[str, int]:
    read, written = (sum(getattr(a, name) for a in answers) for name in ("prompt_tokens", "tokens"))
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
