"""What "int8" and "cuda" in a recipe stand for: every way of this machine's installed engines."""

from __future__ import annotations

from importlib import util
from typing import Any

from optkit.benchmarking.targets import gpu_chains, require
from optkit.compression.steps import AnyOf
from optkit.core.cpu import has_vnni
from optkit.errors import MissingDependency, RecipeError, did_you_mean
from optkit.passes.base import Pass, make

#: The INT8 candidates of each CPU engine.
INT8_PASSES = {"onnxruntime": ("quantize-dynamic", "quantize-static"), "openvino": ("open-vino-int8",)}
#: Those for language models, from the checkpoint: weights alone, since a step of one token waits for them.
_OF_LANGUAGE_MODELS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "onnxruntime": (("export-onnx", {}), ("quantize-weights", {"int8_products": True})),
    "openvino": (("open-vino-stateful", {}),),
}
#: What making and serving them needs, beyond the extra `compress`.
_PACKAGES = {"onnxruntime": (), "openvino": ("openvino", "nncf")}


def expanded(step: Pass | AnyOf | str, runtime: str | None) -> tuple[Pass | AnyOf, ...]:
    """The steps that `step` stands for; a name is that of a pass, int8 or cuda. `runtime` restricts int8."""
    if not isinstance(step, str):
        return (step,)
    if step == "cuda":
        gpu = require("cuda")
        assert gpu is not None
        chains = gpu_chains(gpu)
        return (AnyOf(tuple(tuple(make(*one) for one in chain) for chain in chains)),)
    if step != "int8":
        return (make(step, {}),)
    engines = _engines(runtime)
    names = [name for engine in engines for name in INT8_PASSES[engine]]
    fields = {} if has_vnni() else {"reduce_range": True}  # 8-bit products would saturate
    generating = tuple(tuple(make(*one) for one in _OF_LANGUAGE_MODELS[engine]) for engine in engines)
    return make("export-onnx", {}), AnyOf(tuple((make(name, fields),) for name in names), generating)


def _engines(runtime: str | None) -> list[str]:
    """The engines to try: `runtime` alone, or all that are installed."""
    if runtime is not None and runtime not in INT8_PASSES:
        raise RecipeError(
            f"Expected a CPU engine with INT8, received {runtime!r}.", hint=did_you_mean(runtime, INT8_PASSES)
        )
    absent = {engine: [p for p in _PACKAGES[engine] if not _installed(p)] for engine in INT8_PASSES}
    if runtime is None:
        return [engine for engine in INT8_PASSES if not absent[engine]]
    if absent[runtime]:
        raise MissingDependency.of(absent[runtime][0], runtime)
    return [runtime]


def _installed(package: str) -> bool:
    return util.find_spec(package) is not None
