"""`POST /models/NAME`, `/zero-shot-classification` and `/zero-shot-image-classification`, as clients of the
hub's inference API call them: with a text, or an image in base64.

Source: the hub's specification of the tasks, huggingface.js/packages/tasks/src/tasks/zero-shot-classification
and .../zero-shot-image-classification, which `InferenceClient` of huggingface_hub follows.
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


def body_of(names: tuple[str, ...], settings: ServeSettings, of_files: bool) -> Body:
    text: Any = Annotated[str, StringConstraints(max_length=settings.max_text)]
    item: Any = str if of_files else text  # the body's limit is that of a file
    labels: Any = Annotated[list[text], Field(min_length=1, max_length=settings.max_inputs)]
    items: Any = Annotated[list[item], Field(min_length=1, max_length=settings.max_inputs)]
    title = "ZeroShotImage" if of_files else "ZeroShot"
    parameters = record(
        f"{title}Parameters",
        candidate_labels=(labels | text, ...),
        hypothesis_template=(text | None, None),
        multi_label=(FLAG | None, None),
    )
    kind = record(
        f"{title}Request",
        model=(Literal[names], names[0]),
        inputs=(item | items, ...),
        parameters=(parameters, ...),
    )
    return Body(kind)


def routes(models: list[Served], settings: ServeSettings) -> Routes:
    routes = Routes(APIRouter(tags=["zero-shot"]))
    for kind in dict.fromkeys(served.task.asks_labels for served in models if served.task.asks_labels):
        known = {served.name: served for served in models if served.task.asks_labels == kind}
        body = body_of(tuple(known), settings, next(iter(known.values())).task.takes[0].binary)
        _add(routes, f"/{kind}", list(known.values()), body, settings)
        for name, served in known.items():
            _add(routes, f"/models/{name}", [served], body, settings)
    return routes


def _add(routes: Routes, path: str, models: list[Served], body: Body, settings: ServeSettings) -> None:
    known = {served.name: served for served in models}

    @routes.way(path, body, models, name=path, response_model=list[LabelScore] | list[list[LabelScore]])
    async def classify(request: Request) -> Response:
        """The labels of a text or an image, the best first; of several one such list for each."""
        timeout_s = timeout_of(request, settings.timeout_s)
        given = await body.read(request)
        served = known[given.model] if len(known) > 1 else models[0]
        items = [given.inputs] if isinstance(given.inputs, str) else given.inputs
        asked, part = given.parameters.model_dump(), served.task.takes[0]
        values = [{part.name: {"b64": item} if part.binary else item, **asked} for item in items]
        inputs = [served.task.from_json(value) for value in values]
        answers, _ = await served.answer(inputs, timeout_s)
        rows = [
            [{"label": label, "score": score} for label, score in zip(answer.labels, answer.scores)]
            for answer in answers
        ]
        return JSONResponse(rows[0] if isinstance(given.inputs, str) else rows)
