"""`POST /v1/models/NAME:predict` and the list of models: KServe's protocol v1."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from optkit.serving.http.body import Body, answers_of, one_input, record, timeout_of
from optkit.serving.http.generation import asked, parameters
from optkit.serving.http.model_slot import Served
from optkit.serving.http.routes import Routes
from optkit.serving.http.settings import ServeSettings
from optkit.tasks.labelled import JsonType


class Predictions(BaseModel):
    """One prediction per instance, in the order given."""

    predictions: list[dict[str, Any]]
    model_version: str


class Part(BaseModel):
    """A named part of every input."""

    name: str
    required: bool
    binary: bool


class Model(BaseModel):
    id: str
    object: str = "model"
    name: str
    task: str
    version: str
    inputs: list[Part]
    ready: bool = True


class Models(BaseModel):
    """The models by name; as `data` in the form that OpenAI's clients read."""

    models: list[str]
    object: str = "list"
    data: list[Model]


def body_of(served: Served, settings: ServeSettings) -> Body:
    kind: JsonType = one_input(served.task, settings)
    instances: JsonType = Annotated[list[kind], Field(min_length=1, max_length=settings.max_inputs)]
    title = "".join(part.title() for part in served.task.name.split("-"))
    fields: dict[str, Any] = {"instances": (instances, ...)}
    if served.task.generates:
        fields["parameters"] = (parameters(settings), parameters(settings)())
    return Body(record(f"{title}Request", **fields))


def routes(models: list[Served], settings: ServeSettings) -> Routes:
    routes = Routes(APIRouter(tags=["predict"]))
    for served in models:
        _add(routes, served, settings)

    @routes.router.get("/v1/models", responses=answers_of(401))
    async def list_models() -> Models:
        return Models(models=[m.name for m in models], data=[_model(m) for m in models])

    return routes


def _add(routes: Routes, served: Served, settings: ServeSettings) -> None:
    body = body_of(served, settings)

    @routes.way(
        f"/v1/models/{served.name}:predict",
        body,
        [served],
        name=f"predict {served.name}",
        summary=f"Answers of {served.name} ({served.task.name})",
        response_model=Predictions,
    )
    async def predict(request: Request) -> Response:
        timeout_s = timeout_of(request, settings.timeout_s)
        task = served.task
        given = await body.read(request)
        inputs = [task.from_json(x.model_dump() if isinstance(x, BaseModel) else x) for x in given.instances]
        options = asked(task, given.parameters) if task.generates else {}
        answers, version = await served.answer(inputs, timeout_s, options)
        predictions = [task.describe(answer) for answer in answers]
        return JSONResponse({"predictions": predictions, "model_version": version})

    @routes.router.get(f"/v1/models/{served.name}", name=f"model {served.name}", responses=answers_of(401))
    async def describe() -> Model:
        return _model(served)


def _model(served: Served) -> Model:
    return Model(
        id=served.name,
        name=served.name,
        task=served.task.name,
        version=served.current.name,
        inputs=[Part(name=f.name, required=f.required, binary=f.binary) for f in served.task.takes],
    )
