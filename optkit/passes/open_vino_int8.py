"""`open-vino-int8`: INT8 weights and activations for OpenVINO, by NNCF's post-training quantization."""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact, copy_side_files
from optkit.data.examples import EncodedSet
from optkit.errors import DataError, MissingDependency, PassError, RecipeError, did_you_mean
from optkit.passes import bf16_probe, graph
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.open_vino import convert, save
from optkit.passes.tower_graphs import calibration_rows

if TYPE_CHECKING:
    import openvino


@dataclass(frozen=True)
class OpenVinoInt8(Pass):
    """Quantize to INT8 for OpenVINO with NNCF, ranges fixed on training data.

    NNCF's preset for transformers keeps the products inside of attention in float. SmoothQuant
    moves outliers of activations into the weights before (Xiao et al. 2022), and bias correction
    takes the mean error out of each output after. An answer does not depend on its batch.
    Convolutions wider than three stay in float: see `wide_convolutions`.
    Notes: how many operators were quantized, by type, and on how many examples the ranges rest; what the
    rest computes in, and how far bf16 is from f32 (`optkit.passes.bf16_probe`).
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "openvino"
    runtime: ClassVar[str | None] = "openvino"
    precision: ClassVar[str | None] = "int8"
    needs_data: ClassVar[bool] = True
    takes_towers: ClassVar[bool] = True

    preset: str = param(
        "mixed", "weights symmetric; activations asymmetric in mixed", choices=("mixed", "performance")
    )
    samples: int = param(300, "training examples to calibrate on", minimum=1)
    transformer: bool = param(True, "NNCF's model type for transformers")
    smooth_quant: float = param(
        0.95, "strength of SmoothQuant; a negative value turns it off", minimum=-1.0, maximum=1.0
    )
    fast_bias_correction: bool = param(True, "correct biases without one more pass over the data per layer")
    reduce_range: bool = param(False, "7-bit weights, for CPUs without VNNI")
    rest: str = param(
        "auto",
        "what all else computes in; auto: bf16 where the CPU has it and answers stay those of f32",
        choices=("auto", "f32", "bf16"),
    )
    attention: bool = param(False, "INT8 for attention's products of two activations too")
    exclude: tuple[str, ...] = param((), "names of operators that stay in float")

    def runtime_options(self, notes: dict[str, Any]) -> dict[str, Any]:
        """The precision of what stays in float, for the runtime to compile with."""
        return {"precision": notes["rest"]}

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        context.progress("converting", 0.05)
        models = {name: convert(source, name)[0] for name in graph.names_in(source.path)}
        known = {op.get_friendly_name() for model in models.values() for op in model.get_ordered_ops()}
        for name in self.exclude:
            if name not in known:
                raise RecipeError(
                    f"No operator is called {name!r} in this model.", hint=did_you_mean(name, known)
                )
        samples = context.encoded("train", self.samples)
        if len(samples) == 0:
            raise DataError("Quantization for OpenVINO needs examples to calibrate on, received none.")
        copy_side_files(source.path, out)
        rest, counts = list[dict[str, Any]](), Counter[str]()
        read = calibration_rows(samples, context.task)
        for name, model in models.items():
            context.progress("calibrating", 0.2)
            quantized = self._quantize(model, read.get(name, samples))
            save(quantized, out, name)
            context.progress("comparing bf16 with f32", 0.9)
            rest.append(bf16_probe.choose(self.rest, model, quantized, read.get(name, samples)))
            counts.update(quantized_operators(quantized))
        return {
            **bf16_probe.of_all(rest),
            "quantized_operators": dict(counts),
            "wide_convolutions_in_float": sum(len(wide_convolutions(model)) for model in models.values()),
            "calibration_examples": len(samples),
        }

    def _quantize(self, model: openvino.Model, samples: EncodedSet) -> openvino.Model:
        try:
            os.environ["NNCF_CI"] = "1"  # NNCF reports its use to its makers unless this is set
            import nncf
        except ImportError:
            raise MissingDependency.of("nncf", "openvino") from None
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            AdvancedSmoothQuantParameters,
            OverflowFix,
        )

        names = [port.get_any_name() for port in model.inputs]

        def feeds(index: int) -> dict[str, np.ndarray]:
            batch = samples.batch([index])
            return {name: batch[name] for name in names}

        nncf.set_log_level(logging.ERROR)
        there = {op.get_friendly_name() for op in model.get_ordered_ops()}
        left = [*(name for name in self.exclude if name in there), *wide_convolutions(model)]
        left += [] if self.attention else products_of_activations(model)
        ignored = nncf.IgnoredScope(names=sorted(set(left))) if left else None
        strength = self.smooth_quant if self.smooth_quant >= 0 else -1
        try:
            return nncf.quantize(
                model,
                nncf.Dataset(list(range(len(samples))), feeds),
                preset=nncf.QuantizationPreset(self.preset),
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(samples),
                fast_bias_correction=self.fast_bias_correction,
                model_type=nncf.ModelType.TRANSFORMER if self.transformer else None,
                ignored_scope=ignored,
                advanced_parameters=AdvancedQuantizationParameters(
                    overflow_fix=OverflowFix.ENABLE if self.reduce_range else OverflowFix.DISABLE,
                    smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=strength),
                ),
            )
        except Exception as reason:
            raise PassError(
                f"NNCF could not quantize the model: {type(reason).__name__}: {reason}"
            ) from reason


def products_of_activations(model: openvino.Model) -> list[str]:
    """The names of multiplies without a weight: in a transformer, those of attention.

    They are a twentieth of the work at 128 tokens, and rounding their inputs is work of its own.
    """
    constant, names = set(), []
    for op in model.get_ordered_ops():  # what an operator reads comes before it
        name = op.get_friendly_name()
        inputs = [value.get_node().get_friendly_name() in constant for value in op.input_values()]
        if op.get_type_name() == "Constant" or (inputs and all(inputs)):
            constant.add(name)
        elif op.get_type_name() == "MatMul" and not any(inputs):
            names.append(name)
    return names


def wide_convolutions(model: openvino.Model) -> list[str]:
    """The names of convolutions with a kernel over three long in a direction.

    On a CPU with AMX, OpenVINO 2026.4 computes some of them wrongly in INT8: with 16 channels and a kernel of
    8, or 32 and 4, answers are as far off as they are large. No kernel up to three did so, nor a grouped one
    (`benchmarks/convolutions.py`). In bf16 it is the same, which `bf16_probe` sees.
    """
    names = []
    for op in model.get_ordered_ops():
        if op.get_type_name() == "Convolution":
            sizes = [side.get_max_length() for side in list(op.input_value(1).get_partial_shape())[2:]]
            if any(not 1 <= size <= 3 for size in sizes):
                names.append(op.get_friendly_name())
    return names


def quantized_operators(model: openvino.Model) -> dict[str, int]:
    """Type → how many operators take a quantized activation."""
    counts: dict[str, int] = {}
    for op in model.get_ordered_ops():
        if op.get_type_name() not in ("MatMul", "Convolution"):
            continue
        if op.input_value(0).get_node().get_type_name() == "FakeQuantize":
            counts[op.get_type_name()] = counts.get(op.get_type_name(), 0) + 1
    return counts
