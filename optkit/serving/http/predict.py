"""`POST /v1/models/NAME:predict` and the list of models: KServe's protocol v1."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from optkit.serving.http.body import MODEL_REFUSALS, Body, answers_of, one_input, record, timeout_of
from optkit.serving.http.served import Served
from optkit.serving.http.settings import ServeSettings


class Predictions(BaseModel):
    """One prediction per instance, in the order given."""

    predictions: list[dict[str, Any]]
    model_version: str


class Model(BaseModel):
    id: str
    object: str = "model"
    name: str
    task: str
    version: str
    ready: bool = True


class Models(BaseModel):
    """The models by name; as `data` in the form that OpenAI's clients read."""

    models: list[str]
    object: str = "list"
    data: list[Model]


def body_of(served: Served, settings: ServeSettings) -> Body:
    kind: Any = one_input(served.task, settings)
    instances: Any = Annotated[list[kind], Field(min_length=1, max_length=settings.max_inputs)]
    title = "".join(part.title() for part in served.task.name.split("-"))
    return Body(record(f"{title}Request", instances=(instances, ...)))


def routes(models: list[Served], settings: ServeSettings) -> tuple[APIRouter, list[Body]]:
    router = APIRouter(tags=["predict"])
    bodies = []
    for served in models:
        body = body_of(served, settings)
        bodies.append(body)
        _add(router, served, body, settings)

    @router.get("/v1/models", responses=answers_of(401))
    async def list_models() -> Models:
        return Models(models=[m.name for m in models], data=[_model(m) for m in models])

    return router, bodies


def _add(router: APIRouter, served: Served, body: Body, settings: ServeSettings) -> None:
    @router.post(
        f"/v1/models/{served.name}:predict",
        name=f"predict {served.name}",
        summary=f"Answers of {served.name} ({served.task.name})",
        response_model=Predictions,
        responses=MODEL_REFUSALS,
        openapi_extra=body.described(),
    )
    async def predict(request: Request) -> Response:
        timeout_s = timeout_of(request, settings.timeout_s)
        task = served.task
        given = (await body.read(request)).instances
        inputs = [task.from_json(x.model_dump() if isinstance(x, BaseModel) else x) for x in given]
        answers, version = await served.answer(inputs, timeout_s)
        predictions = [task.describe(answer) for answer in answers]
        return JSONResponse({"predictions": predictions, "model_version": version})

    @router.get(f"/v1/models/{served.name}", name=f"model {served.name}", responses=answers_of(401))
    async def describe() -> Model:
        return _model(served)


def _model(served: Served) -> Model:
    return Model(id=served.name, name=served.name, task=served.task.name, version=served.current.name)
