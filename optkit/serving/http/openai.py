"""What OpenAI's ways to generated text share: fields of a request, what is counted, streams of events.

What is not offered is refused where a request asks for it.
Sources: https://platform.openai.com/docs/api-reference/completions, .../chat.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from optkit.serving.http.body import FLAG, NUMBER, record
from optkit.serving.http.errors import answer_to
from optkit.serving.http.model_slot import Served
from optkit.serving.http.settings import ServeSettings
from optkit.tasks.labelled import Answer, Input
from optkit.tasks.stop_sequences import LONGEST, MOST

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

#: A request's body, of a class that is made at run time.
Request: TypeAlias = Any

#: OpenAI's own default.
TEMPERATURE = 1.0
#: OpenAI's words for how a text ended.
ENDS = {"end": "stop", "length": "length"}
#: One server-sent event, as OpenAPI 3.2 describes an item of a stream.
EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
#: What a route that streams says of its answer besides its model.
STREAMS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": EVENT}}}}


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


def fields(settings: ServeSettings) -> dict[str, Any]:
    """The fields of a request that both ways have, but for what is to be continued."""
    stop = Annotated[str, Field(min_length=1, max_length=LONGEST)]
    return {
        "temperature": (Annotated[float, Field(ge=0, le=2), NUMBER], TEMPERATURE),
        "top_p": (Annotated[float, Field(gt=0, le=1), NUMBER], 1.0),
        "seed": (Annotated[int, Field(ge=0, lt=2**63), NUMBER] | None, None),
        "n": (Annotated[int, Field(ge=1, le=settings.max_inputs), NUMBER], 1),
        "stop": (stop | Annotated[list[stop], Field(max_length=MOST)] | None, None),
        "stream": (FLAG, False),
        "stream_options": (record("StreamOptions", include_usage=(Literal[True], ...)) | None, None),
        "logit_bias": (None, None),
        "presence_penalty": (Literal[0], 0),
        "frequency_penalty": (Literal[0], 0),
        "user": (Annotated[str, Field(max_length=1000)] | None, None),
    }


def options_of(served: Served, given: Request, max_new_tokens: int | None) -> dict[str, Any]:
    """The options that a request asks for; what it leaves open, an encoder-decoder model says itself."""
    options = {"temperature": given.temperature, "top_p": given.top_p, "seed": _seed(given)}
    if served.task.has_encoder:
        options = {name: value for name, value in options.items() if name in given.model_fields_set}
    if max_new_tokens is not None:
        options["max_new_tokens"] = max_new_tokens
    if given.stop:
        if served.task.has_encoder:
            raise HTTPException(422, "stop: this model's texts end as its generation_config.json says.")
        options["stop"] = (given.stop,) if isinstance(given.stop, str) else tuple(given.stop)
    return options


def _seed(given: Request) -> int:
    """A greedy text draws nothing: requests for one share a batch only where their seeds are equal too."""
    if given.temperature == 0:
        return 0
    return secrets.randbelow(2**31) if given.seed is None else given.seed


@dataclass(frozen=True)
class Form:
    """How a way writes its answers: the `object` of one, and of an event; how its `id` begins; a choice of a
    text, of how that ended, and of its place, and the same in an event; what goes before the first piece."""

    whole: str
    event: str
    prefix: str
    choice: Callable[[str, str, int], dict[str, Any]]
    piece: Callable[[str, str | None], dict[str, Any]]
    openings: tuple[dict[str, Any], ...] = ()

    def head(self, kind: str, model: str) -> dict[str, Any]:
        number = uuid.uuid4().hex
        return {"id": f"{self.prefix}-{number}", "object": kind, "created": int(time.time()), "model": model}


async def respond(
    served: Served,
    prompts: Sequence[Input],
    given: Request,
    max_new_tokens: int | None,
    timeout_s: float,
    most: int,
    form: Form,
) -> Response:
    """`n` answers to each prompt, at most `most` in all, or one text in events."""
    options, asked = options_of(served, given, max_new_tokens), len(prompts) * given.n
    if given.stream:
        if asked > 1:
            raise HTTPException(422, f"One text can be streamed, received {len(prompts)} x {given.n}.")
        pieces = served.write(prompts[0], timeout_s, options)
        first = await anext(pieces)  # what is wrong with a prompt is said before there is a status
        head = form.head(form.event, given.model)
        return Events(_events(head, first, pieces, form, bool(given.stream_options)))
    if asked > most:
        raise HTTPException(
            422, f"Expected at most {most} answers in a request, received {len(prompts)} x {given.n}."
        )
    answers, _ = await served.answer([p for p in prompts for _ in range(given.n)], timeout_s, options)
    choices = [form.choice(a.text, ENDS[a.finished], i) for i, a in enumerate(answers)]
    head = form.head(form.whole, given.model)
    return JSONResponse({**head, "choices": choices, "usage": usage(answers, given.n)})


def usage(answers: Sequence[Answer], n: int = 1) -> dict[str, int]:
    """What the answers took together; of the `n` to each prompt that is counted once."""
    read, written = sum(a.prompt_tokens for a in answers[::n]), sum(a.tokens for a in answers)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


class Events(StreamingResponse):
    """Server-sent events; what makes them ends when the client goes."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().__call__(scope, receive, send)


async def _events(
    head: dict[str, Any],
    first: Answer,
    pieces: AsyncGenerator[Answer, None],
    form: Form,
    with_usage: bool,
) -> AsyncIterator[str]:
    """A piece each, then how the text ended, what it took if that was asked for, and the end."""
    for opening in form.openings:
        yield _event({**head, "choices": [opening]})
    piece = first
    async with aclosing(pieces):
        try:
            while isinstance(piece, str):
                yield _event({**head, "choices": [form.piece(piece, None)]})
                piece = await anext(pieces)
        except Exception as error:  # the status is sent already
            yield f"data: {bytes(answer_to(error).body).decode()}\n\n"
            return
    yield _event({**head, "choices": [form.piece("", ENDS[piece.finished])]})
    if with_usage:
        yield _event({**head, "choices": [], "usage": usage([piece])})
    yield "data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
