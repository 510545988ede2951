"""Which convolutions OpenVINO computes rightly on this CPU, in INT8 and in bf16.

Run: python benchmarks/convolutions.py
Writes benchmarks/results/convolutions.json; about a minute. Each convolution stands alone in a graph, reads
noise, and is compared with torch on the very values that it is given, rounded to INT8 where it rounds. Its
error is the largest difference as a share of the largest output: rounding costs less than .01 in INT8 and .03
in bf16, a wrong kernel .5 and more. `open-vino-int8` leaves in float what is wrong here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops
import torch

from optkit.benchmarking.environment import describe

FILE = Path(__file__).parent / "results" / "convolutions.json"
LOW, HIGH, LENGTH, STEP = -0.17, 2.58, 48, 0.01
LIMITS = {"int8": 0.01, "bf16": 0.03}
Kernel = tuple[int, int, int, int, int, int]


def error(
    precision: str, axes: int, inputs: int, outputs: int, groups: int, kernel: int, stride: int
) -> float:
    random = np.random.default_rng(0)
    shape = [-1, inputs] + [-1] * axes
    x = ops.parameter(ov.PartialShape(shape), np.float32, name="x")
    low, high = (ops.constant(np.array(v, np.float32)) for v in (LOW, HIGH))
    given = ops.fake_quantize(x, low, high, low, high, 256) if precision == "int8" else x
    integers = random.integers(-127, 128, (outputs, inputs // groups, *[kernel] * axes)).astype(np.int8)
    size = (groups, outputs // groups, inputs // groups) if groups > 1 else (outputs, inputs)
    ones = (groups, outputs // groups, 1) if groups > 1 else (outputs, 1)
    weights = ops.multiply(
        ops.convert(ops.constant(integers.reshape((*size, *[kernel] * axes))), np.float32),
        ops.constant(np.full((*ones, *[1] * axes), STEP, np.float32)),
    )
    convolve = ops.group_convolution if groups > 1 else ops.convolution
    y = convolve(given, weights, [stride] * axes, [0] * axes, [0] * axes, [1] * axes)
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    compiled = ov.Core().compile_model(ov.Model([y], [x], "one"), "CPU", hint)
    values = random.uniform(LOW, HIGH, (1, inputs, *[LENGTH] * axes)).astype(np.float32)
    got = compiled([values])[0]
    if precision == "int8":
        unit = (HIGH - LOW) / 255
        values = (np.round((values - LOW) / unit) * unit + LOW).astype(np.float32)
    function = torch.nn.functional.conv1d if axes == 1 else torch.nn.functional.conv2d
    right = function(
        torch.tensor(values), torch.tensor(integers * np.float32(STEP)), stride=stride, groups=groups
    ).numpy()
    return float(abs(right - got).max() / abs(right).max())


def kernels() -> Iterator[Kernel]:
    """Axes, inputs, outputs, groups, kernel, stride."""
    sizes = [(k, s) for k in (1, 2, 3) for s in (1, 2, 3, 4)]
    sizes += [(k, s) for k in (4, 5, 6, 7, 8, 12, 16) for s in sorted({1, 2, k // 2, k})]
    for axes in (1, 2):
        for kernel, stride in sizes:
            for inputs in (3, 8, 16, 32, 64, 256):
                for outputs in (16, 64):
                    if inputs * kernel**axes < 20_000:
                        yield axes, inputs, outputs, 1, kernel, stride
            if stride <= kernel:
                yield axes, 32, 32, 32, kernel, stride


def main() -> None:
    wrong: dict[str, list[Kernel]] = {precision: [] for precision in LIMITS}
    tried = 0
    for kernel in kernels():
        tried += 1
        for precision, limit in LIMITS.items():
            if error(precision, *kernel) > limit:
                wrong[precision].append(kernel)
    columns = ["axes", "inputs", "outputs", "groups", "kernel", "stride"]
    result = {"environment": describe(), "openvino": ov.__version__, "tried": tried, "columns": columns}
    FILE.write_text(json.dumps(result | {"wrong": wrong}) + "\n", encoding="utf-8")
    for precision, rows in wrong.items():
        print(precision, f"{len(rows)} of {tried} wrong; kernels {sorted({r[4] for r in rows})}", rows[:5])


if __name__ == "__main__":
    main()
