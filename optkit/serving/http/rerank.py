"""`POST /v1/rerank` as Cohere's clients call it, `/rerank` as those of text-embeddings-inference do.

Cohere's second version asks at `/v2/rerank`. Both take the words of either: `documents` or `texts`,
`return_documents` or `return_text`. Scores are the model's own, as sentence-transformers gives them;
`raw_scores` asks for logits. Sources: docs.cohere.com/reference/rerank, docs/openapi.json of
huggingface/text-embeddings-inference.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from optkit.serving.http.body import FLAG, NUMBER, Body, record, timeout_of
from optkit.serving.http.model_slot import Served
from optkit.serving.http.routes import Routes
from optkit.serving.http.settings import ServeSettings


class Document(BaseModel):
    text: str


class Result(BaseModel):
    index: int
    relevance_score: float
    document: Document | None = None


class Results(BaseModel):
    id: str
    model: str
    results: list[Result]


class Rank(BaseModel):
    index: int
    score: float
    text: str | None = None


def body_of(names: tuple[str, ...], settings: ServeSettings) -> Body:
    text: Any = Annotated[str, StringConstraints(max_length=settings.max_text)]
    document: Any = text | record("RerankDocument", text=(text, ...))
    many: Any = Annotated[list[document], Field(min_length=1, max_length=settings.max_inputs)]
    kind = record(
        "RerankRequest",
        model=(Literal[names], names[0]),
        query=(text, ...),
        documents=(many | None, None),
        texts=(many | None, None),
        top_n=(Annotated[int, Field(ge=1), NUMBER] | None, None),
        return_documents=(FLAG | None, None),
        return_text=(FLAG | None, None),
        raw_scores=(FLAG, False),
    )
    return Body(kind)


def routes(models: list[Served], settings: ServeSettings) -> Routes:
    routes = Routes(APIRouter(tags=["rerank"]))
    known = {served.name: served for served in models if served.task.ranks}
    if not known:
        return routes
    body = body_of(tuple(known), settings)

    async def ranked(request: Request) -> tuple[Any, list[tuple[int, float, str | None]]]:
        """The request, and (index, score, text where that was asked for) of its best documents in order."""
        timeout_s = timeout_of(request, settings.timeout_s)
        given = await body.read(request)
        if (given.documents is None) == (given.texts is None):
            raise HTTPException(422, "Expected either documents or texts, a list of at least one.")
        texts = [x if isinstance(x, str) else x.text for x in given.documents or given.texts]
        [ranking], _ = await known[given.model].answer([(given.query, texts)], timeout_s)
        with_text = bool(given.return_documents or given.return_text)
        return given, [
            (x.index, x.logit if given.raw_scores else x.score, texts[x.index] if with_text else None)
            for x in ranking.results[: given.top_n]
        ]

    for path in ("/v1/rerank", "/v2/rerank"):

        @routes.way(
            path,
            body,
            list(known.values()),
            name=path,
            response_model=Results,
            response_model_exclude_none=True,
        )
        async def results(request: Request) -> Response:
            given, best = await ranked(request)
            rows = [
                {
                    "index": i,
                    "relevance_score": score,
                    **({} if text is None else {"document": {"text": text}}),
                }
                for i, score, text in best
            ]
            return JSONResponse({"id": str(uuid.uuid4()), "model": given.model, "results": rows})

    @routes.way("/rerank", body, list(known.values()), response_model=list[Rank])
    async def rerank(request: Request) -> Response:
        _, best = await ranked(request)
        return JSONResponse(
            [
                {"index": i, "score": score, **({} if text is None else {"text": text})}
                for i, score, text in best
            ]
        )

    return routes
