"""optimum-onnx, as its quick start says: export, then ORTQuantizer with the CPU's dynamic INT8 configuration.

https://huggingface.co/docs/optimum-onnx/onnxruntime/quickstart
"""

import sys

from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig


def main(checkpoint: str, data: str, out: str) -> None:
    model = ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True)
    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    ORTQuantizer.from_pretrained(model).quantize(save_dir=out, quantization_config=config)


if __name__ == "__main__":
    main(*sys.argv[1:])
