"""What the server answers to each error: the same from every route, with nothing of the user's in it."""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from optkit.errors import DataError, OptkitError, RecipeError
from optkit.serving.http.batch_queue import Late, QueueFull
from optkit.serving.http.logs import log

#: The body of every 429.
BUSY = json.dumps({"error": "The server is busy.", "hint": "Try again later."}).encode()


def answer_to(error: Exception) -> Response:
    """The response for what a route raised. What nobody expected is logged by its place, and is 500."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)
    if isinstance(error, (DataError, RecipeError)):
        return JSONResponse(shown(error), 422)
    if isinstance(error, QueueFull):
        return Response(BUSY, 429, {"retry-after": str(error.retry_after_s)}, "application/json")
    if isinstance(error, Late):
        return JSONResponse(shown(error), 504)
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    place = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else ""
    log("error", "request failed", error=type(error).__name__, place=place)
    return JSONResponse({"error": "The server failed to answer."}, 500)


async def handle(request: Request, error: Exception) -> Response:
    """For FastAPI, which keeps a table of handlers by class."""
    return answer_to(error)


#: What `handle` is registered for; the last one stands for all the others.
HANDLED = (HTTPException, DataError, RecipeError, QueueFull, Late, Exception)


def shown(error: OptkitError) -> dict[str, Any]:
    return {"error": str(error), **({"hint": error.hint} if error.hint else {})}
