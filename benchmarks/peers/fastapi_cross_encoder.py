"""What many write first: FastAPI around sentence-transformers' CrossEncoder. Run: SCRIPT CHECKPOINT PORT."""

from __future__ import annotations

import sys
import threading

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import CrossEncoder

app = FastAPI()
model = CrossEncoder(sys.argv[1], device="cpu")
one_at_a_time = threading.Lock()


class Request(BaseModel):
    query: str
    documents: list[str]


@app.post("/v1/rerank")
def rerank(given: Request) -> dict:
    with one_at_a_time:
        scores = model.predict([(given.query, text) for text in given.documents], batch_size=32)
    order = scores.argsort()[::-1]
    return {"results": [{"index": int(i), "relevance_score": float(scores[i])} for i in order]}


uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
