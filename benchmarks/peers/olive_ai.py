"""Olive, as its example for BERT on a CPU does it: convert, fuse for transformers, dynamic INT8.

https://microsoft.github.io/Olive/ (OnnxConversion, OrtTransformersOptimization, OnnxDynamicQuantization)
`olive optimize --precision int8`, its one-step command, calibrates on a data set from the hub, and was not
to be had without a network.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path


def main(checkpoint: str, data: str, out: str) -> None:
    made, workflow = Path(out, "olive"), Path(out, "workflow.json")
    cpu = [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}]
    settings = {
        "input_model": {"type": "HfModel", "model_path": checkpoint, "task": "text-classification"},
        "systems": {"local_system": {"type": "LocalSystem", "accelerators": cpu}},
        "passes": {
            "conversion": {"type": "OnnxConversion", "target_opset": 17},
            "optimization": {"type": "OrtTransformersOptimization", "model_type": "bert"},
            "quantization": {"type": "OnnxDynamicQuantization"},
        },
        "host": "local_system",
        "target": "local_system",
        "output_dir": str(made),
    }
    workflow.write_text(json.dumps(settings), encoding="utf-8")
    olive = Path(sys.executable).with_name("olive")
    subprocess.run([olive, "run", "--config", workflow, "--disable_telemetry"], check=True)
    shutil.copy(next(made.rglob("*.onnx")), Path(out, "model.onnx"))


if __name__ == "__main__":
    main(*sys.argv[1:])
