"""`POST /models/NAME` and `/zero-shot-classification`, as clients of the hub's inference API call them.

Source: the hub's specification of the task, huggingface.js/packages/tasks/src/tasks/zero-shot-classification,
which `InferenceClient.zero_shot_classification` of huggingface_hub follows.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from optkit.serving.http.body import FLAG, Body, record, timeout_of
from optkit.serving.http.model_slot import Served
from optkit.serving.http.routes import Routes
from optkit.serving.http.settings import ServeSettings


class LabelScore(BaseModel):
    label: str
    score: float


def body_of(names: tuple[str, ...], settings: ServeSettings) -> Body:
    text: Any = Annotated[str, StringConstraints(max_length=settings.max_text)]
    labels: Any = Annotated[list[text], Field(min_length=1, max_length=settings.max_inputs)]
    texts: Any = Annotated[list[text], Field(min_length=1, max_length=settings.max_inputs)]
    parameters = record(
        "ZeroShotParameters",
        candidate_labels=(labels | text, ...),
        hypothesis_template=(text | None, None),
        multi_label=(FLAG | None, None),
    )
    kind = record(
        "ZeroShotRequest",
        model=(Literal[names], names[0]),
        inputs=(text | texts, ...),
        parameters=(parameters, ...),
    )
    return Body(kind)


def routes(models: list[Served], settings: ServeSettings) -> Routes:
    routes = Routes(APIRouter(tags=["zero-shot"]))
    known = {served.name: served for served in models if served.task.asks_labels}
    if not known:
        return routes
    body = body_of(tuple(known), settings)
    _add(routes, "/zero-shot-classification", list(known.values()), body, settings)
    for name, served in known.items():
        _add(routes, f"/models/{name}", [served], body, settings)
    return routes


def _add(routes: Routes, path: str, models: list[Served], body: Body, settings: ServeSettings) -> None:
    known = {served.name: served for served in models}

    @routes.way(path, body, models, name=path, response_model=list[LabelScore] | list[list[LabelScore]])
    async def classify(request: Request) -> Response:
        """The labels of a text, the best first; of several texts one such list for each."""
        timeout_s = timeout_of(request, settings.timeout_s)
        given = await body.read(request)
        served = known[given.model] if len(known) > 1 else models[0]
        texts = [given.inputs] if isinstance(given.inputs, str) else given.inputs
        asked = given.parameters.model_dump()
        inputs = [served.task.from_json({"text": text, **asked}) for text in texts]
        answers, _ = await served.answer(inputs, timeout_s)
        rows = [
            [{"label": label, "score": score} for label, score in zip(answer.labels, answer.scores)]
            for answer in answers
        ]
        return JSONResponse(rows[0] if isinstance(given.inputs, str) else rows)
