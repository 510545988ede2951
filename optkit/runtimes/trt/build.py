"""From an ONNX file to a serialized engine, in a strongly typed network.

Strongly typed: the types of the ONNX graph are those of the engine, and no builder flag lowers a
precision (TensorRT 11 has no such flags any more). Source: TensorRT's Python API, 10.16 and 11.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optkit.errors import PassError
from optkit.runtimes.trt.library import make_logger, version
from optkit.runtimes.trt.profiles import Profile, shape_of

if TYPE_CHECKING:
    from types import ModuleType

    import tensorrt


MIB = 2**20
_HARDWARE = {"none": "NONE", "ampere-plus": "AMPERE_PLUS", "same-capability": "SAME_COMPUTE_CAPABILITY"}


@dataclass(frozen=True)
class BuildSettings:
    """How the builder works; the fields are explained at the pass `tensorrt`."""

    workspace_mib: int = 4096
    optimization_level: int = 3
    version_compatible: bool = False
    hardware_compatible: str = "none"
    refit: bool = False
    weight_streaming: bool = False


@dataclass(frozen=True)
class Built:
    """A serialized engine, and the timing cache after the build."""

    engine: bytes
    timing_cache: bytes
    cache_was_used: bool


def build_engine(
    library: ModuleType, onnx_file: Path, profiles: Sequence[Profile], settings: BuildSettings, cache: bytes
) -> Built:
    """Parse and build. PassError lists every error of the parser with its node.

    `cache` is an earlier timing cache, b"" for none; one from another GPU or TensorRT is ignored.
    """
    builder = library.Builder(make_logger(library))
    network = builder.create_network(_creation_flags(library))
    parser = library.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(onnx_file)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        raise PassError(
            f"TensorRT cannot read {onnx_file.name}: {len(errors)} errors.\n"
            + "\n".join(_sentence(e) for e in errors),
            hint='Export with attention = "plain": TensorRT knows no operators of com.microsoft.',
        )
    config = builder.create_builder_config()
    _set_up(library, config, settings)
    timing, used = _timing_cache(config, cache)
    for profile in profiles:
        config.add_optimization_profile(_profile(builder, network, profile))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise PassError(
            f"TensorRT could not build an engine from {onnx_file.name}; its log says why.",
            hint="Common reasons: too little workspace (workspace_mib) or free GPU memory.",
        )
    return Built(bytes(plan), bytes(timing.serialize()), used)


def _creation_flags(library: ModuleType) -> int:
    """11 has strongly typed networks only; 10 has to be told."""
    if version(library)[0] >= 11:
        return 0
    return 1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _set_up(library: ModuleType, config: tensorrt.IBuilderConfig, settings: BuildSettings) -> None:
    config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, settings.workspace_mib * MIB)
    config.builder_optimization_level = settings.optimization_level
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED
    level = getattr(library.HardwareCompatibilityLevel, _HARDWARE[settings.hardware_compatible])
    config.hardware_compatibility_level = level
    flags = library.BuilderFlag
    wanted = {
        "VERSION_COMPATIBLE": settings.version_compatible,
        "REFIT": settings.refit,
        "WEIGHT_STREAMING": settings.weight_streaming,
    }
    for name, on in wanted.items():
        if on:
            config.set_flag(getattr(flags, name))


def _timing_cache(config: tensorrt.IBuilderConfig, stored: bytes) -> tuple[tensorrt.ITimingCache, bool]:
    """The cache the builder will use, and whether `stored` was taken: a foreign one is refused."""
    timing = config.create_timing_cache(stored)
    if config.set_timing_cache(timing, False):
        return timing, bool(stored)
    timing = config.create_timing_cache(b"")
    config.set_timing_cache(timing, False)
    return timing, False


def _profile(
    builder: tensorrt.Builder, network: tensorrt.INetworkDefinition, profile: Profile
) -> tensorrt.IOptimizationProfile:
    optimization_profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        shapes = [shape_of(tuple(tensor.shape), b, t) for b, t in zip(profile.batch, profile.tokens)]
        optimization_profile.set_shape(tensor.name, *shapes)
    return optimization_profile


def _sentence(error: tensorrt.IParserError) -> str:
    node = error.node_name() or f"number {error.node()}"
    return f"- node {node!r} ({error.node_operator() or 'unknown operator'}): {error.desc()}"
