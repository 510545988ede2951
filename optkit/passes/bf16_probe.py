"""Whether a model's own products in bf16 are those of f32 on this CPU, as OpenVINO computes them.

OpenVINO 2026.4 has an open report of wrong ones on CPUs with AVX512-BF16 and no AMX
(openvinotoolkit/openvino#38256: other numbers, and up to 135 times as large), so no CPU is taken at its word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core import cpu
from optkit.data.examples import EncodedSet
from optkit.errors import PassError
from optkit.runtimes.vino_core import core, has_bf16

if TYPE_CHECKING:
    import openvino

#: Rows that each product is tried with: one token, fewer than a register holds, a text.
ROWS = (1, 7, 128)
#: Examples that the whole model answers, alone and together.
EXAMPLES = 8
#: Most that rounding to the 8 bits of bf16 explains, as a share of the largest number: of one product, and of
#: a quantized model's outputs, which a value near the edge of an INT8 step moves further.
OF_PRODUCT, OF_MODEL = 0.02, 0.1


def choose(
    rest: str, plain: openvino.Model, quantized: openvino.Model, samples: EncodedSet
) -> dict[str, Any]:
    """Notes: `rest`, what is left in float computes in, and what was found where bf16 was tried.

    `plain` and `quantized` are the model before and after quantization. "auto" is bf16 where the CPU has
    it and both the products and the whole model's outputs stay those of f32. Raises PassError where bf16
    was asked for and a product is wrong.
    """
    if rest == "f32" or not has_bf16():
        return {"rest": "f32" if rest == "auto" else rest}
    product = max((compare(one, feeds) for one, feeds in products(plain)), default=0.0)
    whole = compare(quantized, batches(quantized, samples))
    notes = {"bf16_product_difference": product, "bf16_difference": whole}
    if product > OF_PRODUCT:
        if rest == "bf16":
            raise PassError(
                f"Products in bf16 on this CPU ({cpu.model()}) differ from those in f32 by {product:.2g} of "
                f"the largest number (rounding explains {OF_PRODUCT:g}).",
                hint='Leave rest at "auto", which takes f32 here.',
            )
        return {"rest": "f32", **notes}
    if rest == "auto" and whole > OF_MODEL:
        return {"rest": "f32", **notes}
    return {"rest": "bf16", **notes, "bf16_proven_on": cpu.model()}


def of_all(notes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Notes of a whole model, of what `choose` gave for each of its parts: f32 where one of them takes it.

    >>> of_all([{"rest": "bf16", "bf16_difference": 0.1}, {"rest": "f32", "bf16_difference": 0.2}])
    {'rest': 'f32', 'bf16_difference': 0.2}
    """
    whole = dict(notes[0])
    for part in notes[1:]:
        for name, value in part.items():
            before = whole.get(name, value)
            whole[name] = max(before, value) if isinstance(value, float) else before
        whole["rest"] = whole["rest"] if whole["rest"] == part["rest"] else "f32"
    if whole["rest"] != "bf16":
        whole.pop("bf16_proven_on", None)
    return whole


def compare(model: openvino.Model, feeds: list[dict[str, np.ndarray]]) -> float:
    """The largest difference between bf16 and f32, as a share of the output's largest number in f32."""
    answers = []
    for precision in ("f32", "bf16"):
        compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
        answers.append([[np.array(v, np.float64) for v in compiled(batch).values()] for batch in feeds])
    worst = 0.0
    for expected, received in zip(*(zip(*batches) for batches in answers)):  # by output
        largest = np.max([np.abs(a).max(initial=0.0) for a in expected])
        apart = np.max([np.abs(a - b).max(initial=0.0) for a, b in zip(expected, received)])  # NaN stays NaN
        share = float(apart / max(largest, 1e-9))
        worst = max(worst, share if math.isfinite(share) else 1.0)
    return worst


def products(model: openvino.Model) -> list[tuple[openvino.Model, list[dict[str, np.ndarray]]]]:
    """A model of one product, with its feeds, for each shape of a weight in `model`, with that weight."""
    from openvino import Model, PartialShape, Type, opset13

    random, models = np.random.default_rng(0), {}
    for op in model.get_ordered_ops():
        if op.get_type_name() != "MatMul" or op.input_value(1).get_node().get_type_name() != "Constant":
            continue
        weight, turned = op.input_value(1).get_node().get_data(), op.get_attributes()["transpose_b"]
        if weight.ndim != 2 or (weight.shape, turned) in models:
            continue
        width = weight.shape[1] if turned else weight.shape[0]
        rows = opset13.parameter(PartialShape([-1, width]), Type.f32, name="rows")
        product = opset13.matmul(rows, opset13.constant(weight), False, turned)
        feeds = [{"rows": random.standard_normal((n, width)).astype(np.float32)} for n in ROWS]
        rows.output(0).set_names({"rows"})
        models[weight.shape, turned] = (Model([product], [rows]), feeds)
    return list(models.values())


def batches(model: openvino.Model, samples: EncodedSet) -> list[dict[str, np.ndarray]]:
    """The shortest and the longest of the first examples alone, and all of them together."""
    some = samples.take(range(min(EXAMPLES, len(samples))))
    order = np.argsort(some.lengths, kind="stable")
    names = [port.get_any_name() for port in model.inputs]
    picked = (order[:1], order[-1:], np.arange(len(some)))
    return [{name: batch[name] for name in names} for batch in map(some.batch, picked)]
