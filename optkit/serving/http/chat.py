"""`POST /v1/chat/completions` as OpenAI's clients call it, for language models with a chat template.

Source: https://platform.openai.com/docs/api-reference/chat. The messages become one prompt by the template
that lies beside the tokenizer (`optkit.models.chat`). What is not offered (tools, response formats,
log-probabilities, penalties) is refused where a request asks for it.
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

PATH = "/v1/chat/completions"
#: The most messages of one request.
MESSAGES = 1000


class Said(BaseModel):
    role: Literal["assistant"]
    content: str


class Choice(BaseModel):
    index: int
    message: Said
    logprobs: None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: openai.Usage


def body_of(names: tuple[str, ...], settings: ServeSettings) -> Body:
    text: JsonType = Annotated[str, StringConstraints(max_length=settings.max_text)]
    part: JsonType = record("TextPart", type=(Literal["text"], ...), text=(text, ...))
    name: JsonType = Annotated[str, Field(max_length=100)]
    message: JsonType = record(
        "ChatMessage",
        role=(Literal["system", "developer", "user", "assistant"], ...),
        content=(text | Annotated[list[part], Field(min_length=1, max_length=MESSAGES)], ...),
        name=(name | None, None),
    )
    plain: JsonType = record("TextFormat", type=(Literal["text"], ...))
    limit = new_tokens(settings)
    kind = record(
        "ChatCompletionRequest",
        model=(Literal[names], ...),
        messages=(Annotated[list[message], Field(min_length=1, max_length=MESSAGES)], ...),
        max_tokens=(limit | None, None),
        max_completion_tokens=(limit | None, None),
        response_format=(plain | None, None),
        tools=(None, None),
        tool_choice=(Literal["none"] | None, None),
        logprobs=(Literal[False] | None, None),
        top_logprobs=(None, None),
        **openai.fields(settings),
    )
    return Body(kind)


def routes(models: list[Served], settings: ServeSettings) -> Routes:
    routes = Routes(APIRouter(tags=["chat"]))
    known = {s.name: s for s in models if s.task.generates and not s.task.has_encoder}
    if not known:
        return routes
    body = body_of(tuple(known), settings)

    @routes.way(PATH, body, list(known.values()), response_model=ChatCompletion, responses=openai.STREAMS)
    async def chat_completions(request: Request) -> Response:
        timeout_s = timeout_of(request, settings.timeout_s)
        given = await body.read(request)
        served = known[given.model]
        messages = [message.model_dump(exclude_none=True) for message in given.messages]
        most = given.max_completion_tokens or given.max_tokens or settings.max_new_tokens
        return await openai.respond(served, [messages], given, most, timeout_s, settings.max_inputs, _FORM)

    return routes


def _choice(text: str, end: str, index: int) -> dict[str, Any]:
    said = {"role": "assistant", "content": text}
    return {"index": index, "message": said, "logprobs": None, "finish_reason": end}


def _piece(text: str, end: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": {} if end else {"content": text}, "logprobs": None, "finish_reason": end}


_FORM = openai.Form(
    whole="chat.completion",
    event="chat.completion.chunk",
    prefix="chatcmpl",
    choice=_choice,
    piece=_piece,
    openings=({**_piece("", None), "delta": {"role": "assistant", "content": ""}},),
)
