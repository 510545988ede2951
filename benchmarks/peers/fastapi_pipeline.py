"""What many write first: FastAPI around the transformers pipeline, on the fp32 checkpoint.

Run: python fastapi_pipeline.py CHECKPOINT PORT
"""

import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

torch.set_num_threads(2)
classify = pipeline("text-classification", model=sys.argv[1], device="cpu")
app = FastAPI()


class Request(BaseModel):
    text: str


@app.post("/predict")
def predict(request: Request) -> dict:
    return classify(request.text)[0]


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
