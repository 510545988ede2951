"""OpenVINO with NNCF, as its documentation says for transformers: convert, then nncf.quantize.

https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
"""

import json
import sys
from pathlib import Path

import nncf
import openvino
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

SAMPLES = 300


def main(checkpoint: str, data: str, out: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    lines = Path(data, "train.jsonl").read_text(encoding="utf-8").splitlines()[:SAMPLES]
    texts = [json.loads(line)["text"] for line in lines]
    example = dict(tokenizer(texts[0], return_tensors="pt"))
    dynamic = {name: openvino.PartialShape([-1, -1]) for name in example}
    converted = openvino.convert_model(model, example_input=example, input=dynamic)
    names = [x.any_name for x in converted.inputs]
    encoded = nncf.Dataset(texts, lambda text: {n: tokenizer(text, return_tensors="np")[n] for n in names})
    quantized = nncf.quantize(
        converted, encoded, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(texts)
    )
    openvino.save_model(quantized, str(Path(out, "openvino_model.xml")))


if __name__ == "__main__":
    main(*sys.argv[1:])
