"""`Routes`: what a protocol brings. FastAPI describes all of it, and answers all but the ways to models.

A way takes a request as it is and makes its own answer: middleware, matching and dependencies of a web
framework would only cost it time, so `Gate` calls it straight.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from optkit.serving.http.body import MODEL_REFUSALS, Body
from optkit.serving.http.model_slot import Served

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Way:
    """How to answer POST at a path, and the models of which one is asked."""

    endpoint: Endpoint
    models: Sequence[Served]

    def turn_away(self) -> int | None:
        """Whole seconds until there may be room, where no model has any; None where there is."""
        return self.refuse() if all(model.full for model in self.models) else None

    def refuse(self) -> int:
        """Count a request that finds no room; when to come back, in seconds."""
        return min(model.turn_away() for model in self.models)


@dataclass(frozen=True)
class Routes:
    router: APIRouter
    bodies: list[Body] = field(default_factory=list)
    ways: dict[str, Way] = field(default_factory=dict)

    def way(
        self, path: str, body: Body, models: Sequence[Served], **described: Any
    ) -> Callable[[Endpoint], Endpoint]:
        """A decorator: it answers POST at `path`. One with parameters is left to FastAPI."""

        def add(endpoint: Endpoint) -> Endpoint:
            extra = {**body.described(), **described.pop("openapi_extra", {})}
            responses = MODEL_REFUSALS | described.pop("responses", {})
            self.router.post(path, responses=responses, openapi_extra=extra, **described)(endpoint)
            self.bodies.append(body)
            if "{" not in path:
                self.ways[path] = Way(endpoint, models)
            return endpoint

        return add
