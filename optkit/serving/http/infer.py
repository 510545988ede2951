"""The Open Inference Protocol v2 over HTTP: health, metadata, `infer`; for KServe's and Triton's clients."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from optkit.core.version import __version__
from optkit.errors import DataError
from optkit.serving.http.body import NUMBER, Body, answers_of, check_type, record, timeout_of
from optkit.serving.http.generation import options_among, parameters
from optkit.serving.http.model_slot import Served
from optkit.serving.http.routes import Routes
from optkit.serving.http.settings import ServeSettings
from optkit.serving.http.tensors import (
    Tensor,
    TensorInfo,
    examples,
    flat,
    from_raw,
    inputs_of,
    outputs_of,
    tensors,
)
from optkit.tasks.labelled import JsonType

#: Triton's header: how many bytes of the body are JSON; raw tensors follow.
HEAD_LENGTH = "inference-header-content-length"


class Server(BaseModel):
    name: str = "optkit"
    version: str = __version__
    extensions: list[str] = ["binary_tensor_data"]


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool


class Metadata(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]


class Answer(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[dict[str, Any]]


class Output(BaseModel):
    name: str
    parameters: dict[str, Any] = {}


def body_of(served: Served, settings: ServeSettings) -> Body:
    text: JsonType = Annotated[str, StringConstraints(max_length=settings.max_text)]
    if any(field.binary for field in served.task.takes):
        text = str  # an image in base64 is bounded by the body; `examples` bounds the texts beside it
    values: JsonType = Annotated[list[text], Field(max_length=settings.max_inputs)]
    nested: JsonType = Annotated[list[values], Field(max_length=settings.max_inputs)]
    sizes: JsonType = Annotated[list[Annotated[int, Field(ge=0), NUMBER]], Field(min_length=1, max_length=4)]
    entry: JsonType = record(
        "InferInput",
        name=(str, ...),
        shape=(sizes, ...),
        datatype=(Annotated[str, Field(pattern="^BYTES$")], ...),
        parameters=(dict[str, Any], {}),
        data=(values | nested | None, None),
    )
    kind = record(
        "InferRequest",
        id=(str | None, None),
        parameters=(dict[str, Any], {}),
        inputs=(Annotated[list[entry], Field(min_length=1, max_length=4)], ...),
        outputs=(list[Output], []),
    )
    return Body(kind)


def routes(models: list[Served], settings: ServeSettings, draining: Callable[[], bool]) -> Routes:
    routes = Routes(APIRouter(tags=["v2"]))
    router = routes.router

    @router.get("/v2", responses=answers_of(401))
    async def server() -> Server:
        return Server()

    @router.get("/v2/health/live")
    async def live() -> Live:
        return Live(live=True)

    @router.get("/v2/health/ready", responses=answers_of(503))
    async def ready() -> Ready:
        if draining():
            raise HTTPException(503, "The server is shutting down.")
        return Ready(ready=True)

    for served in models:
        body = body_of(served, settings)
        for versioned in (False, True):
            _add(routes, served, body, settings, versioned)
    return routes


def _add(routes: Routes, served: Served, body: Body, settings: ServeSettings, versioned: bool) -> None:
    router, generation = routes.router, parameters(settings)
    path = f"/v2/models/{served.name}" + ("/versions/{version}" if versioned else "")
    label = f"{served.name} by version" if versioned else served.name
    unknown = answers_of(404) if versioned else {}

    def check(request: Request) -> None:
        wanted = request.path_params.get("version")
        if wanted is not None and wanted != served.current.name:
            raise HTTPException(404, f"{served.name} has the version {served.current.name} only.")

    extra = {"parameters": [_VERSION]} if versioned else {}

    @router.get(
        path, name=f"metadata {label}", responses=answers_of(401) | unknown, openapi_extra=extra or None
    )
    async def metadata(request: Request) -> Metadata:
        check(request)
        task = served.task
        return Metadata(
            name=served.name,
            versions=[served.current.name],
            platform=f"optkit_{served.current.predictor.artifact.format}",
            inputs=inputs_of(task),
            outputs=outputs_of(task),
        )

    @router.get(
        f"{path}/ready",
        name=f"ready {label}",
        responses=answers_of(401) | unknown,
        openapi_extra=extra or None,
    )
    async def model_ready(request: Request) -> Ready:
        check(request)
        return Ready(ready=True)

    @routes.way(
        f"{path}/infer",
        body,
        [served],
        name=f"infer {label}",
        response_model=Answer,
        responses=unknown,
        openapi_extra=extra,
    )
    async def infer(request: Request) -> Response:
        check(request)
        timeout_s = timeout_of(request, settings.timeout_s)
        wanted, raw = await _read(request, body)
        columns = _columns(wanted, raw, settings)
        options = options_among(served.task, generation, wanted.parameters) if served.task.generates else {}
        inputs = examples(served.task, columns, settings.max_text)
        answers, version = await served.answer(inputs, timeout_s, options)
        return _answer(wanted, tensors(served.task, answers), served.name, version)


_VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}


async def _read(request: Request, body: Body) -> tuple[Any, bytes]:
    """The JSON part, checked, and the raw tensors behind it."""
    given = request.headers.get(HEAD_LENGTH)
    if given is None:
        return await body.read(request), b""
    check_type(request, ("application/octet-stream", "application/json", ""))
    everything = await request.body()
    if not given.isascii() or not given.isdigit() or len(given) > 9 or int(given) > len(everything):
        raise HTTPException(422, f"Expected in {HEAD_LENGTH} the length of the body's JSON part.")
    return body.parse(everything[: int(given)]), everything[int(given) :]


def _columns(wanted: Any, raw: bytes, settings: ServeSettings) -> dict[str, list[Any]]:
    """Tensor name → elements. Raises DataError."""
    columns: dict[str, list[Any]] = {}
    for tensor in wanted.inputs:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            values: list[Any] = flat(tensor.data or [])
        elif isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= len(raw):
            values, raw = from_raw(raw[:size]), raw[size:]
        else:
            raise DataError("Expected in binary_data_size the length of a tensor that follows the JSON part.")
        count = 1
        for side in tensor.shape:
            count *= side
        if count != len(values):
            raise DataError(f"Expected a shape that fits the {len(values)} elements received.")
        if not 0 < count <= settings.max_inputs:
            raise DataError(f"Expected 1 to {settings.max_inputs} elements, received {count}.")
        if tensor.name in columns:
            raise DataError("Two tensors have the same name.")
        columns[tensor.name] = values
    if raw:
        raise DataError(f"{len(raw)} bytes follow the last tensor.")
    return columns


def _answer(wanted: Any, given: list[Tensor], name: str, version: str) -> Response:
    by_name = {tensor.name: tensor for tensor in given}
    asked = {output.name: output.parameters for output in wanted.outputs} or {key: {} for key in by_name}
    if set(asked) - set(by_name):
        raise DataError(f"Expected outputs among {sorted(by_name)}.")
    binary = bool(wanted.parameters.get("binary_data_output"))
    outputs, parts = [], []
    for key, settings in asked.items():
        tensor = by_name[key]
        entry: dict[str, Any] = {"name": key, "datatype": tensor.datatype, "shape": tensor.shape}
        if settings.get("binary_data", binary):
            parts.append(tensor.raw())
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = tensor.values()
        outputs.append(entry)
    content = {"model_name": name, "model_version": version, "outputs": outputs}
    if wanted.id is not None:
        content["id"] = wanted.id
    if not parts:
        return JSONResponse(content)
    head = json.dumps(content).encode()
    headers = {HEAD_LENGTH: str(len(head))}
    return Response(b"".join([head, *parts]), headers=headers, media_type="application/octet-stream")
