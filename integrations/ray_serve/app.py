"""An artifact on Ray Serve, with its dynamic batching. Run: OPTKIT_MODEL=models/small serve run app:app

Then: curl -d '{"text": "a fine film"}' http://127.0.0.1:8000/
"""

from __future__ import annotations

import os
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

import optkit


@serve.deployment(ray_actor_options={"num_cpus": 1}, max_ongoing_requests=256)
class Model:
    """One replica holds the artifact once; requests that arrive together are answered together."""

    def __init__(self, path: str, threads: int = 1) -> None:
        self._predictor = optkit.load(path, threads=threads)

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.002)
    async def answer(self, texts: list[str]) -> list[dict[str, Any]]:
        return [self._predictor.task.describe(a) for a in self._predictor.predict(texts)]

    async def __call__(self, request: Request) -> JSONResponse:
        try:
            body = await request.json()
            text = body["text"]
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": 'Expected {"text": "..."}.'}, status_code=400)
        if not isinstance(text, str):
            return JSONResponse({"error": "Expected text to be a string."}, status_code=400)
        return JSONResponse(await self.answer(text))


app = Model.bind(os.environ.get("OPTKIT_MODEL", "models/small"))
