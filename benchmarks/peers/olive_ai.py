"""Olive, by its command line's one-step optimizer for an int8 model on the CPU.

https://microsoft.github.io/Olive/reference/cli.html
"""

import shutil
import subprocess
import sys
from pathlib import Path


def main(checkpoint: str, data: str, out: str) -> None:
    made = Path(out, "olive")
    olive = Path(sys.executable).with_name("olive")
    command = ["capture-onnx-graph", "--task", "text-classification"]
    subprocess.run([olive, *command, "-m", checkpoint, "-o", made / "fp32"], check=True)
    source = next((made / "fp32").rglob("*.onnx"))
    quantize = ["quantize", "--implementation", "ort", "--algorithm", "dynamic", "--precision", "int8"]
    subprocess.run([olive, *quantize, "-m", source, "-o", made / "int8"], check=True)
    shutil.copy(next((made / "int8").rglob("*.onnx")), Path(out, "model.onnx"))


if __name__ == "__main__":
    main(*sys.argv[1:])
