"""What a person or a monitor looks at: a page to try a text, the API described, and the metrics.

All files are our own and inline nothing, so that the policy can forbid every outside reference.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

from optkit.serving.http.metrics import Metrics

_HERE = Path(__file__).with_name("static")
_FILES = {
    "/": ("try.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def routes(metrics: Metrics) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    for path, (name, kind) in _FILES.items():
        _add(router, path, (_HERE / name).read_bytes(), kind)

    @router.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204)

    @router.get("/metrics")
    async def exposition() -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _add(router: APIRouter, path: str, content: bytes, kind: str) -> None:
    @router.get(path, name=path)
    async def file() -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)
