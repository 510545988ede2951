"""neural-compressor 2, the last with an ONNX front end of its own: dynamic INT8 of an exported graph.

https://intel.github.io/neural-compressor/ (post-training quantization)
"""

import sys
from pathlib import Path

import torch
from neural_compressor import PostTrainingQuantConfig, quantization
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def main(checkpoint: str, data: str, out: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, torch_dtype=torch.float32).eval()
    example = dict(tokenizer("a text", return_tensors="pt"))
    fp32 = Path(out, "fp32.onnx")
    torch.onnx.export(
        model,
        (example,),
        str(fp32),
        input_names=list(example),
        output_names=["logits"],
        dynamic_axes={name: {0: "batch", 1: "sequence"} for name in example},
        opset_version=17,
        dynamo=False,
    )
    quantized = quantization.fit(str(fp32), PostTrainingQuantConfig(approach="dynamic"))
    quantized.save(str(Path(out, "model.onnx")))
    fp32.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
