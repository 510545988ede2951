"""`POST /v1/completions` as OpenAI's clients call it, for models that generate text.

Source: https://platform.openai.com/docs/api-reference/completions. What is not offered (streaming, several
choices, stop sequences, log-probabilities, penalties) is refused where a request asks for it.
"""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from optkit.serving.http.body import Body, record, timeout_of
from optkit.serving.http.generation import new_tokens
from optkit.serving.http.routes import Routes
from optkit.serving.http.served import Served
from optkit.serving.http.settings import ServeSettings

#: OpenAI's own defaults.
MAX_TOKENS, TEMPERATURE = 16, 1.0
#: OpenAI's words for how a text ended.
ENDS = {"end": "stop", "length": "length"}


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
    text: Any = Annotated[str, StringConstraints(max_length=settings.max_text)]
    many: Any = Annotated[list[text], Field(min_length=1, max_length=settings.max_inputs)]
    kind = record(
        "CompletionsRequest",
        model=(Literal[names], ...),
        prompt=(text | many, ...),
        max_tokens=(new_tokens(settings), min(MAX_TOKENS, settings.max_new_tokens)),
        temperature=(Annotated[float, Field(ge=0, le=2)], TEMPERATURE),
        top_p=(Annotated[float, Field(gt=0, le=1)], 1.0),
        seed=(Annotated[int, Field(ge=0, lt=2**63)] | None, None),
        n=(Literal[1], 1),
        best_of=(Literal[1], 1),
        stream=(Literal[False], False),
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

    @routes.way("/v1/completions", body, list(known.values()), response_model=Completions)
    async def completions(request: Request) -> Response:
        timeout_s = timeout_of(request, settings.timeout_s)
        given = await body.read(request)
        prompts = [given.prompt] if isinstance(given.prompt, str) else given.prompt
        options = {
            "max_new_tokens": given.max_tokens,
            "temperature": given.temperature,
            "top_p": given.top_p,
            "seed": secrets.randbelow(2**31) if given.seed is None else given.seed,
        }
        answers, _ = await known[given.model].answer(prompts, timeout_s, options)
        read, written = (sum(getattr(a, name) for a in answers) for name in ("prompt_tokens", "tokens"))
        choices = [
            {"text": a.text, "index": i, "logprobs": None, "finish_reason": ENDS[a.finished]}
            for i, a in enumerate(answers)
        ]
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        return JSONResponse(
            {
                "id": f"cmpl-{uuid.uuid4().hex}",
                "object": "text_completion",
                "created": int(time.time()),
                "model": given.model,
                "choices": choices,
                "usage": usage,
            }
        )

    return routes
