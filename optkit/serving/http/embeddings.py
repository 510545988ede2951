"""`POST /v1/embeddings` as OpenAI's clients call it, `/embed` as those of text-embeddings-inference do.

`dimensions` cuts a vector, and one of length 1 has length 1 again, as both services have it. Beside what
OpenAI takes: `prompt_name` and `prompt`, and `output_dtype` as Voyage calls it (int8 and uint8 by the ranges
that the server was started with). Token ids as input are not taken. A model that reads images, too, takes
them as Jina's clients send them, {"image": ...} in base64 or as a data URI, and as a data URI alone. Sources:
platform.openai.com/docs/api-reference/embeddings, docs/openapi.json of huggingface/text-embeddings-inference,
docs.voyageai.com/reference/embeddings-api, api.jina.ai/openapi.json.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Union

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from optkit.errors import DataError
from optkit.serving.http.body import FLAG, NUMBER, Body, record, timeout_of
from optkit.serving.http.model_slot import Served
from optkit.serving.http.routes import Routes
from optkit.serving.http.settings import ServeSettings
from optkit.serving.http.tensors import b64
from optkit.tasks.labelled import JsonType
from optkit.tasks.vectors import VectorOptions, read_ranges, unit


class Usage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | list[int] | str


class Embeddings(BaseModel):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


#: Voyage's name of a kind of vectors → sentence-transformers'.
_KINDS = {"float": "float32", **{kind: kind for kind in ("int8", "uint8", "binary", "ubinary")}}


def routes(models: list[Served], settings: ServeSettings) -> Routes:
    routes = Routes(APIRouter(tags=["embeddings"]))
    known = {served.name: served for served in models if served.task.embeds}
    if not known:
        return routes
    ranges = None if settings.ranges is None else read_ranges(settings.ranges)
    text: JsonType = Annotated[str, StringConstraints(max_length=settings.max_text)]
    towers = [served.task.has_towers for served in known.values()]
    kinds: list[JsonType] = [text]
    if any(towers):
        kinds.append(record("TextInput", text=(text, ...), __config__=ConfigDict(extra="forbid")))
        kinds.append(record("ImageInput", image=(str, ...), __config__=ConfigDict(extra="forbid")))
    if all(towers):  # a file, which the limit of the body bounds alone
        kinds.append(Annotated[str, StringConstraints(pattern="^data:image/")])
    item: JsonType = Union[*kinds]
    several: JsonType = list[item]
    inputs: JsonType = item | Annotated[several, Field(min_length=1, max_length=settings.max_inputs)]
    shared: dict[str, Any] = {
        "dimensions": (Annotated[int, Field(ge=1), NUMBER] | None, None),
        "prompt_name": (text | None, None),
        "prompt": (text | None, None),
    }
    as_openai = Body(
        record(
            "EmbeddingsRequest",
            model=(Literal[tuple(known)], ...),
            input=(inputs, ...),
            encoding_format=(Literal["float", "base64"], "float"),
            output_dtype=(Literal[tuple(_KINDS)], "float"),
            **shared,
        )
    )
    first = next(iter(known))
    as_tei = Body(
        record(
            "EmbedRequest",
            model=(Literal[tuple(known)], first),
            inputs=(inputs, ...),
            normalize=(FLAG, True),
            truncate=(FLAG | None, None),
            **shared,
        )
    )

    @routes.way("/v1/embeddings", as_openai, list(known.values()), response_model=Embeddings)
    async def embeddings(request: Request) -> Response:
        timeout_s = timeout_of(request, settings.timeout_s)
        given = await as_openai.read(request)
        served, kind = known[given.model], _KINDS[given.output_dtype]
        if kind.endswith("int8") and ranges is None:
            raise HTTPException(422, f"{kind} needs ranges: start the server with --ranges FILE.")
        chosen = VectorOptions(precision=kind, ranges=ranges if kind.endswith("int8") else None)
        texts = _prompted(served, given.input, given)
        vectors, _ = await served.answer(texts, timeout_s)
        try:
            answers = chosen.vectors(_cut(served.name, vectors, given.dimensions))
        except DataError as error:
            raise HTTPException(422, str(error)) from None
        tokens = await asyncio.to_thread(served.current.predictor.task.token_count, texts)
        form: Callable[[np.ndarray], str | list[float]] = (
            b64 if given.encoding_format == "base64" else lambda vector: vector.tolist()
        )
        data = [{"object": "embedding", "index": i, "embedding": form(x)} for i, x in enumerate(answers)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": data, "model": given.model, "usage": usage})

    @routes.way("/embed", as_tei, list(known.values()), response_model=list[list[float]])
    async def embed(request: Request) -> Response:
        timeout_s = timeout_of(request, settings.timeout_s)
        given = await as_tei.read(request)
        served = known[given.model]
        texts = _prompted(served, given.inputs, given)
        if given.truncate is False:
            encoded = await asyncio.to_thread(served.current.predictor.encode, texts)
            if encoded.truncated:
                raise HTTPException(
                    422, f"{encoded.truncated} texts have more tokens than {served.name} takes."
                )
        vectors, _ = await served.answer(texts, timeout_s)
        cut = _cut(served.name, vectors, given.dimensions)
        return JSONResponse([vector.tolist() for vector in (unit(np.stack(cut)) if given.normalize else cut)])

    return routes


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _prompted(served: Served, inputs: Any, given: Any) -> Sequence[Any]:
    """One input or several with the prompt that the request names. Raises RecipeError for one that is none,
    DataError for an image where the model reads texts alone."""
    asked = {name: value for name in ("prompt_name", "prompt") if (value := getattr(given, name)) is not None}
    values = [x.model_dump() if isinstance(x, BaseModel) else x for x in _listed(inputs)]
    return served.task.prepared([served.task.to_embed(value) for value in values], asked)


def _cut(name: str, vectors: Sequence[np.ndarray], dimensions: int | None) -> list[np.ndarray]:
    """The first `dimensions` of each vector, of length 1 where the whole one is."""
    if dimensions is None:
        return list(vectors)
    if dimensions > (width := len(vectors[0])):  # of the version that answered
        raise HTTPException(422, f"{name} gives {width} dimensions, received {dimensions}.")
    cut = [vector[:dimensions] for vector in vectors]
    whole = all(abs(float(np.linalg.norm(vector)) - 1) < 1e-3 for vector in vectors)
    return list(unit(np.stack(cut))) if whole else cut
