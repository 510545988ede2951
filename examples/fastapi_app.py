"""A compressed model inside a FastAPI application of one's own; `optkit serve` is a whole server instead.

python examples/compress.py && uvicorn --app-dir examples fastapi_app:app
curl localhost:8000/sentiment -H 'Content-Type: application/json' -d '{"texts": ["a fine film"]}'
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel, Field

import optkit


class Question(BaseModel):
    texts: list[str] = Field(max_length=64)


class Answer(BaseModel):
    label: str
    score: float


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    with optkit.load(os.environ.get("MODEL", "work/int8")) as app.state.model:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/sentiment")
def sentiment(question: Question) -> list[Answer]:  # not async: it computes, so FastAPI gives it a thread
    answers = app.state.model.predict(question.texts)
    return [Answer(label=answer.label, score=answer.score) for answer in answers]
