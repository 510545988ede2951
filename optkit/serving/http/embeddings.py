"""`POST /v1/embeddings` as OpenAI's clients call it, for models whose answers are vectors.

Source: https://platform.openai.com/docs/api-reference/embeddings. Token ids as input are not taken.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from optkit.serving.http.body import Body, record, timeout_of
from optkit.serving.http.model_slot import Served
from optkit.serving.http.routes import Routes
from optkit.serving.http.settings import ServeSettings
from optkit.serving.http.tensors import b64
from optkit.tasks.labelled import JsonType


class Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(BaseModel):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


def routes(models: list[Served], settings: ServeSettings) -> Routes:
    routes = Routes(APIRouter(tags=["embeddings"]))
    known = {served.name: served for served in models if served.task.embeds}
    if not known:
        return routes
    text: JsonType = Annotated[str, StringConstraints(max_length=settings.max_text)]
    many: JsonType = Annotated[list[text], Field(min_length=1, max_length=settings.max_inputs)]
    kind = record(
        "EmbeddingsRequest",
        model=(Literal[tuple(known)], ...),
        input=(text | many, ...),
        encoding_format=(Literal["float", "base64"], "float"),
        dimensions=(Annotated[int, Field(ge=1)] | None, None),
    )
    body = Body(kind)

    @routes.way("/v1/embeddings", body, list(known.values()), response_model=Embeddings)
    async def embeddings(request: Request) -> Response:
        timeout_s = timeout_of(request, settings.timeout_s)
        given = await body.read(request)
        served = known[given.model]
        texts = [given.input] if isinstance(given.input, str) else given.input
        vectors, _ = await served.answer(texts, timeout_s)
        width = len(vectors[0])  # of the version that answered
        if given.dimensions not in (None, width):
            raise HTTPException(422, f"{served.name} gives {width} dimensions, received {given.dimensions}.")
        used = await asyncio.to_thread(served.current.predictor.encode, texts)
        tokens = int(used.lengths.sum())
        form = b64 if given.encoding_format == "base64" else lambda vector: vector.tolist()
        data = [
            {"object": "embedding", "index": i, "embedding": form(vector)} for i, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": given.model, "usage": usage})

    return routes
