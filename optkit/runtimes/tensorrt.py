"""TensorRT: engines for NVIDIA GPUs, with CUDA graphs per shape, on a stream of their own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, OptkitError
from optkit.runtimes.base import Feeds, Session, Setting, TensorSpec
from optkit.runtimes.cuda.buckets import cut, fill, rounded
from optkit.runtimes.cuda.device import Handle, open_device
from optkit.runtimes.cuda.probe import Gpu
from optkit.runtimes.settings import COUNTS
from optkit.runtimes.trt.execution import Execution
from optkit.runtimes.trt.library import make_runtime, numpy_type, open_library
from optkit.runtimes.trt.profiles import Profile, choose

if TYPE_CHECKING:
    from types import ModuleType

    import tensorrt


#: A context with its graph holds some device memory; the one unused for longest is closed.
MOST_CONTEXTS = 64


class TensorRTSession(Session):
    """An engine on one GPU. Batches that are too large are cut; the profile follows the batch's shape.

    `memory` is the provider of device memory: cuda-bindings, torch or pycuda (None: torch where it
    is loaded, else the first installed). `graphs` captures a CUDA graph for each shape that comes
    twice, and rounds shapes up (tokens to a multiple of `bucket`, the batch to a power of two) so
    that there are few. `streaming_mib` bounds the weights kept on the GPU, for engines built with
    weight streaming. `threads` is taken, and means nothing here.
    """

    device = "cuda"

    thread_safe = False  # one stream, one scratch memory
    package: ClassVar[str] = "tensorrt"
    extra: ClassVar[str] = "tensorrt"
    stored: ClassVar[Mapping[str, Sequence[Any] | type]] = {
        "threads": COUNTS,
        "memory": ("cuda-bindings", "torch", "pycuda"),
        "graphs": (True, False),
        "bucket": COUNTS,
        "streaming_mib": range(1, 2**20),
    }

    def __init__(
        self,
        artifact: Artifact,
        memory: str | None = None,
        graphs: bool = True,
        bucket: int = 16,
        streaming_mib: int | None = None,
        threads: int | None = None,
    ) -> None:
        library, gpu = open_library()
        _check_target(artifact, library, gpu)
        engines = artifact.model_files
        if len(engines) != 1:
            raise CheckpointError(f"Expected one engine in {str(artifact.path)!r}, found {len(engines)}.")
        self._device = open_device(memory)
        self._strategy = library.ExecutionContextAllocationStrategy.USER_MANAGED
        built = artifact.lineage[-1].get("parameters", {}) if artifact.lineage else {}
        self._runtime = make_runtime(library, bool(built.get("version_compatible")))
        self._engine = self._runtime.deserialize_cuda_engine(engines[0].read_bytes())
        if self._engine is None:
            raise CheckpointError(f"TensorRT cannot load {str(engines[0])!r}.", hint=_rebuild(artifact))
        if streaming_mib is not None:
            self._engine.weight_streaming_budget_v2 = streaming_mib * 2**20
        self._graphs, self._bucket = graphs, bucket
        self.inputs, self.outputs = _specs(library, self._engine)
        self._profiles = _profiles(self._engine, [s.name for s in self.inputs])
        self._stream = self._device.stream()
        size = max(int(self._engine.device_memory_size_v2), 1)
        self._scratch = (self._device.allocate(size), size)
        self._executions: OrderedDict[tuple[int, int, int], Execution] = OrderedDict()

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        feeds = self.select(feeds)
        largest = max(p.batch[2] for p in self._profiles)
        count = len(next(iter(feeds.values())))
        parts = [
            self._part({n: a[i : i + largest] for n, a in feeds.items()}) for i in range(0, count, largest)
        ]
        return parts[0] if len(parts) == 1 else {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}

    def synchronize(self) -> None:
        self._device.synchronize(self._stream)

    def mark(self) -> Handle:
        return self._device.record(self._stream)

    def elapsed_ms(self, begin: Handle, end: Handle) -> float:
        return self._device.elapsed_ms(begin, end)

    def close(self) -> None:
        if self._engine is not None:
            for execution in self._executions.values():
                execution.close()
            self._executions.clear()
            self._engine = self._runtime = None
            self._device.close()

    def _part(self, feeds: dict[str, np.ndarray]) -> Feeds:
        """Answer one batch that fits: fill it up to its bucket, run, and cut the filling off."""
        batch, tokens = next(iter(feeds.values())).shape[:2]
        number = choose(self._profiles, batch, tokens)
        if number is None:
            raise OptkitError(
                f"The engine takes at most {max(p.tokens[2] for p in self._profiles)} tokens, "
                f"received a batch of {batch} x {tokens}.",
                hint="Build it again with data that has such lengths, or truncate.",
            )
        wide, long = batch, tokens
        if self._graphs:
            profile = self._profiles[number]
            wide, long = rounded(batch, tokens, (profile.batch[2], profile.tokens[2]), self._bucket)
            long = long if "attention_mask" in feeds else tokens
        outputs = self._execution(number, wide, long).run(fill(feeds, wide, long))
        return cut(outputs, self.per_token(), batch, tokens)

    def _execution(self, number: int, batch: int, tokens: int) -> Execution:
        """The context of a profile, or with CUDA graphs that of a profile and shape."""
        key = (number, batch, tokens) if self._graphs else (number, 0, 0)
        if key not in self._executions:
            inputs, outputs = _types(self.inputs), _types(self.outputs)
            context = self._engine.create_execution_context(self._strategy)
            self._executions[key] = Execution(
                context, self._device, self._stream, number, inputs, outputs, self._scratch, self._graphs
            )
            if len(self._executions) > MOST_CONTEXTS:
                self._executions.popitem(last=False)[1].close()
        self._executions.move_to_end(key)
        return self._executions[key]


def open_session(artifact: Artifact, **options: Setting) -> TensorRTSession:
    return TensorRTSession(artifact, **options)


def _specs(
    library: ModuleType, engine: tensorrt.ICudaEngine
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    specs: dict[bool, list[TensorSpec]] = {True: [], False: []}
    for i in range(engine.num_io_tensors):
        name = engine.get_tensor_name(i)
        shape = tuple(engine.get_tensor_shape(name))
        named = tuple(("batch", "sequence")[min(k, 1)] if d == -1 else int(d) for k, d in enumerate(shape))
        spec = TensorSpec(name, numpy_type(engine.get_tensor_dtype(name)), named)
        specs[engine.get_tensor_mode(name) == library.TensorIOMode.INPUT].append(spec)
    return tuple(specs[True]), tuple(specs[False])


def _types(specs: tuple[TensorSpec, ...]) -> dict[str, np.dtype]:
    return {spec.name: np.dtype(spec.dtype) for spec in specs}


def _profiles(engine: tensorrt.ICudaEngine, inputs: list[str]) -> list[Profile]:
    """The engine's own profiles, from the first input of text or image."""
    profiles = []
    for i in range(engine.num_optimization_profiles):
        low, opt, high = (tuple(s) for s in engine.get_tensor_profile_shape(inputs[0], i))
        profiles.append(Profile((low[0], opt[0], high[0]), (low[1], opt[1], high[1])))
    return profiles


def _check_target(artifact: Artifact, library: ModuleType, gpu: Gpu) -> None:
    """Refuse an engine that was built for another GPU or TensorRT, before TensorRT fails on it."""
    step = artifact.lineage[-1] if artifact.lineage else {}
    target, options = step.get("notes", {}).get("built_for"), step.get("parameters", {})
    if not target:
        return
    if not isinstance(target, dict) or not {"gpu", "compute_capability", "tensorrt"} <= set(target):
        raise CheckpointError(
            f"Expected the GPU and TensorRT that it was built for in the manifest of {str(artifact.path)!r}.",
            hint=_rebuild(artifact),
        )
    problems = []
    there, here = target["compute_capability"], gpu.capability
    kind = options.get("hardware_compatible", "none")
    if kind == "ampere-plus":
        fits = float(here) >= 8.0
    else:
        fits = there == here and (kind == "same-capability" or target["gpu"] == gpu.name)
    if not fits:
        problems.append(
            f"the GPU {target['gpu']} (compute capability {there}), and this one is {gpu.name} ({here})"
        )
    built, present = target["tensorrt"], library.__version__
    newer = built.split(".")[0] == present.split(".")[0] and _numbers(present) >= _numbers(built)
    if built != present and not (options.get("version_compatible") and newer):
        problems.append(f"TensorRT {built}, and this is {present}")
    if problems:
        raise CheckpointError(
            f"The engine in {str(artifact.path)!r} was built for {'; and for '.join(problems)}.",
            hint=_rebuild(artifact),
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _rebuild(artifact: Artifact) -> str:
    return f"Build it for this machine from the graph beside it: optkit build {artifact.path}"
