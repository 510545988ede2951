"""optimum-onnx, as its quick start says: export, then ORTQuantizer with the CPU's dynamic INT8 configuration.

https://huggingface.co/docs/optimum-onnx/onnxruntime/quickstart
A fourth argument (O1, O2, O3) puts its graph optimizer in between, as its page on optimization says:
https://huggingface.co/docs/optimum-onnx/onnxruntime/usage_guides/optimization
"""

import sys
from pathlib import Path

from optimum.onnxruntime import ORTModelForSequenceClassification, ORTOptimizer, ORTQuantizer
from optimum.onnxruntime.configuration import AutoOptimizationConfig, AutoQuantizationConfig


def main(checkpoint: str, data: str, out: str, level: str = "") -> None:
    model = ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True)
    quantizer = ORTQuantizer.from_pretrained(model)
    if level:
        optimized = Path(out, "optimized")
        ORTOptimizer.from_pretrained(model).optimize(
            save_dir=optimized, optimization_config=getattr(AutoOptimizationConfig, level)()
        )
        quantizer = ORTQuantizer.from_pretrained(optimized, file_name="model_optimized.onnx")
    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    quantizer.quantize(save_dir=out, quantization_config=config)
    made = next(Path(out).glob("*_quantized.onnx"))
    made.rename(made.with_name("model.onnx"))


if __name__ == "__main__":
    main(*sys.argv[1:])
