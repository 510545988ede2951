"""Olive, by its command line's one-step optimizer for an int8 model on the CPU.

https://microsoft.github.io/Olive/reference/cli.html#optimize
"""

import shutil
import subprocess
import sys
from pathlib import Path


def main(checkpoint: str, data: str, out: str) -> None:
    made = Path(out, "olive")
    olive = Path(sys.executable).with_name("olive")
    command = [olive, "optimize", "-m", checkpoint, "-t", "text-classification", "-o", made]
    place = ["--device", "cpu", "--provider", "CPUExecutionProvider", "--precision", "int8"]
    subprocess.run([*command, *place, "--disable_telemetry"], check=True)
    shutil.copy(next(made.rglob("*.onnx")), Path(out, "model.onnx"))


if __name__ == "__main__":
    main(*sys.argv[1:])
