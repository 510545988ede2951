"""`make_app`: the server put together. `optkit.serving.http.run` runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

from optkit.core.artifact import state
from optkit.core.version import __version__
from optkit.serving.http import (
    chat,
    completions,
    embeddings,
    infer,
    page,
    predict,
    rerank,
    transcriptions,
    zero_shot,
)
from optkit.serving.http.admission import Gate
from optkit.serving.http.body import Body
from optkit.serving.http.errors import HANDLED, handle
from optkit.serving.http.hotswap import Watcher
from optkit.serving.http.logs import log, set_up
from optkit.serving.http.metrics import Metrics
from optkit.serving.http.model_slot import Served, check_options
from optkit.serving.http.settings import SETTINGS, ServeSettings
from optkit.serving.http.shadow import Shadow, open_shadow
from optkit.serving.http.workers import end_with_parent, is_worker


def from_environment() -> Gate:
    """The application of a worker process, whose settings lie in its environment."""
    set_up()
    if is_worker():
        end_with_parent()
    return make_app(ServeSettings.from_json(os.environ[SETTINGS]))


def make_app(settings: ServeSettings) -> Gate:
    """An ASGI application. Models load when it starts, and their routes appear then."""
    metrics = Metrics()
    gate: Gate

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        check_options(settings)
        seen = {name: state(path) for name, path in settings.models.items()}
        models = [Served(n, p, settings, metrics.of(n), loop) for n, p in settings.models.items()]
        closing: list[Callable[[], None]] = [served.close for served in models]
        if settings.shadow:
            shadow = _shadow(settings, models[0], metrics)
            closing.append(shadow.close)
        if settings.watch_s:
            watcher = Watcher(models, seen, settings.watch_s, metrics, _on(loop, Served.swap))
            closing.insert(0, watcher.close)
        _add_routes(app, models, settings, gate)
        log("info", "ready", models={m.name: m.current.name for m in models})
        with _draining(gate, settings.drain_s, loop):
            yield
        for close in closing:
            await asyncio.to_thread(close)

    app = FastAPI(
        title="optkit",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,  # a redirection would repeat the path and the host that were asked for
    )
    app.include_router(page.routes(metrics))
    for kind in HANDLED:
        app.add_exception_handler(kind, handle)
    gate = Gate(app, settings, metrics)
    return gate


def _add_routes(app: FastAPI, models: list[Served], settings: ServeSettings, gate: Gate) -> None:
    bodies: list[Body] = []
    for routes in (
        predict.routes(models, settings),
        infer.routes(models, settings, lambda: gate.draining),
        embeddings.routes(models, settings),
        rerank.routes(models, settings),
        completions.routes(models, settings),
        chat.routes(models, settings),
        transcriptions.routes(models, settings),
        zero_shot.routes(models, settings),
    ):
        app.include_router(routes.router)
        bodies += routes.bodies
        gate.ways.update(routes.ways)

    schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    parts = schema.setdefault("components", {})
    for body in bodies:
        parts.setdefault("schemas", {}).update(body.definitions())
    if settings.api_key:
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}]
    described = json.dumps(schema).encode()  # once: whoever asks for it again and again costs little

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(described, media_type="application/json")


def _shadow(settings: ServeSettings, served: Served, metrics: Metrics) -> Shadow:
    shadow = Shadow(open_shadow(settings, served.task.name), metrics.of(served.name))
    served.on_answer = shadow.compare
    return shadow


def _on(loop: asyncio.AbstractEventLoop, call: Callable[..., object]) -> Callable[..., None]:
    def calling(*arguments: object) -> None:
        loop.call_soon_threadsafe(call, *arguments)

    return calling


class _draining:
    """After SIGTERM, SIGINT or SIGHUP (`run` makes it a SIGTERM) the server says that it is not ready, and
    ends each connection with its next answer; `seconds` later uvicorn closes what is left. A second
    signal is uvicorn's at once."""

    def __init__(self, gate: Gate, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._gate, self._seconds, self._loop = gate, seconds, loop
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as in a worker
                    self._previous[number] = signal.signal(number, self._begin)

    def __exit__(self, *_: object) -> None:
        self._gate.draining = True

    def _begin(self, number: int, frame: FrameType | None) -> None:
        for each, previous in self._previous.items():
            signal.signal(each, previous)
        self._gate.draining = True
        log("info", "draining", seconds=self._seconds)
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(
                self._loop.call_later, self._seconds, self._previous[number], signal.SIGTERM, frame
            )
