"""`tensorrt`: an ONNX graph becomes a TensorRT engine for the GPU of this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from optkit.core.artifact import Artifact, copy_files
from optkit.core.files import write_text
from optkit.errors import CheckpointError, PassError, RecipeError
from optkit.models.limits import token_limit
from optkit.passes import graph
from optkit.passes.base import Pass, PassContext, param
from optkit.runtimes.cuda.probe import Gpu
from optkit.runtimes.trt import library as trt_library
from optkit.runtimes.trt.build import BuildSettings, build_engine
from optkit.runtimes.trt.inspection import inspect_engine, summarize_layers
from optkit.runtimes.trt.profiles import Profile, plan
from optkit.tasks.base import Task

if TYPE_CHECKING:
    from types import ModuleType


ENGINE_FILE, INSPECTOR_FILE = "model.engine", "engine-layers.json"
#: The longest input where the model states no limit.
ASSUMED = 512


@dataclass(frozen=True)
class TensorRT(Pass):
    """Build a TensorRT engine, with the types that the ONNX graph has.

    Choose the precision before (cast-fp16, cast-bf16, quantize-tensorrt); the network is strongly
    typed. Optimization profiles follow the lengths of the training data. The graph stays beside
    the engine, so that `optkit build` can make it anew on another GPU or TensorRT.
    Notes: `profiles`, `built_for` (GPU, compute capability, TensorRT, driver, CUDA), `layers`,
    `layer_types`, `layer_outputs`.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "tensorrt"
    needs_data: ClassVar[bool] = True

    profiles: int = param(2, "optimization profiles, from short to long texts", minimum=1, maximum=16)
    batch_opt: int = param(8, "batch size that kernels are chosen for", minimum=1)
    batch_max: int = param(64, "largest batch", minimum=1)
    samples: int = param(4096, "training examples whose lengths are looked at", minimum=1)
    workspace_mib: int = param(4096, "memory that a kernel may use as scratch, MiB", minimum=1)
    optimization_level: int = param(3, "how long the builder searches: 0 to 5", minimum=0, maximum=5)
    version_compatible: bool = param(False, "the engine loads in later TensorRT of the same major version")
    hardware_compatible: str = param(
        "none", "other GPUs that may run the engine", choices=("none", "ampere-plus", "same-capability")
    )
    refit: bool = param(False, "weights can be replaced later without a new build")
    weight_streaming: bool = param(False, "weights may stay in host memory, for models larger than the GPU")
    timing_cache: str = param("", "folder of the timing cache; empty: in the user's cache folder")

    @classmethod
    def name(cls) -> str:
        return "tensorrt"

    def check(self, checkpoint: Artifact, task: Task) -> None:
        if task.any_size:
            raise RecipeError(
                "Expected images of one size, which an engine is built for, received a processor that gives "
                "each its own.",
                hint='Give both sides as size in preprocessor_config.json, {"height": 640, "width": 640}.',
            )

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        context.progress("looking at the lengths of the data", 0.0)
        lengths = context.encoded("train", self.samples).lengths
        batch_opt = min(self.batch_opt, self.batch_max)
        planned = plan(
            lengths, token_limit(source.config) or ASSUMED, self.profiles, (1, batch_opt, self.batch_max)
        )
        source.verify()
        copy_files(source.path, source.manifest["files"], out)
        return self.build(out, planned, context)

    def build(self, folder: Path, profiles: list[Profile], context: PassContext) -> dict[str, Any]:
        """Write the engine of the ONNX graph in `folder` beside it; gives the notes."""
        library, gpu = trt_library.open_library()
        file = self._cache_file(library, gpu)
        cache = file.read_bytes() if file.exists() else b""
        context.progress(f"building the engine with TensorRT {library.__version__}", 0.1)
        built = build_engine(library, folder / graph.MODEL_FILE, profiles, self._settings(), cache)
        (folder / ENGINE_FILE).write_bytes(built.engine)
        _keep(file, built.timing_cache)
        context.progress("inspecting the engine", 0.95)
        runtime = trt_library.make_runtime(library, self.version_compatible)
        engine = runtime.deserialize_cuda_engine(built.engine)
        if engine is None:
            raise PassError("TensorRT cannot load the engine that it has just built; its log says why.")
        layers = inspect_engine(library, engine)
        write_text(folder / INSPECTOR_FILE, layers)
        return {
            "profiles": [p.record() for p in profiles],
            "built_for": built_for(library, gpu),
            "timing_cache_used": built.cache_was_used,
            **summarize_layers(layers),
        }

    def _settings(self) -> BuildSettings:
        return BuildSettings(
            self.workspace_mib,
            self.optimization_level,
            self.version_compatible,
            self.hardware_compatible,
            self.refit,
            self.weight_streaming,
        )

    def _cache_file(self, library: ModuleType, gpu: Gpu) -> Path:
        """One file per GPU model and TensorRT version: times do not carry over."""
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "optkit" / "tensorrt"
        name = "".join(c if c.isalnum() else "-" for c in f"{gpu.name}-{library.__version__}")
        return Path(self.timing_cache or base) / f"{name}.timing"


def built_for(library: ModuleType, gpu: Gpu) -> dict[str, Any]:
    """What an engine is bound to, as the manifest keeps it."""
    return {
        "gpu": gpu.name,
        "compute_capability": gpu.capability,
        "tensorrt": library.__version__,
        "driver": gpu.driver,
        "cuda": gpu.cuda,
    }


def _keep(file: Path, cache: bytes) -> None:
    """Store the timing cache whole or not at all; a folder that cannot be written costs only time."""
    temporary = file.with_name(f".{file.name}.partial-{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(cache)
        temporary.replace(file)
    except OSError:
        return


def last_build(artifact: Artifact) -> dict[str, Any]:
    """The lineage entry of the engine in `artifact`. CheckpointError where it holds none."""
    step = artifact.lineage[-1] if artifact.lineage else {}
    if artifact.format != "tensorrt" or step.get("pass") != TensorRT.name():
        raise CheckpointError(
            f"Expected a TensorRT artifact in {str(artifact.path)!r}, received format {artifact.format!r}.",
            hint='Make one with a recipe that ends in pass = "tensorrt".',
        )
    return step
