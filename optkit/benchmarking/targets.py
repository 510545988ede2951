"""Where a model will serve: what is compared with what there, and what is tried.

`cpu` compares with eager torch and a tuned fp32 graph in ONNX Runtime. `cuda` does both in torch on the
GPU, and tries every way that this machine has: torch in half precision, compiled with CUDA graphs,
torchao's 8-bit layers, ONNX Runtime's CUDA provider, TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata, util
from typing import Any

from optkit.core.artifact import Artifact
from optkit.errors import OptkitError
from optkit.runtimes.cuda import probe as cuda_probe
from optkit.runtimes.cuda.probe import Gpu

TARGETS = ("cpu", "cuda")
#: The first row of every report.
EAGER = "torch-fp32"
#: FP8 needs matrix units of Ada, Hopper or later.
FP8_CAPABILITY = 8.9
Chain = list[tuple[str, dict[str, Any]]]


def require(target: str) -> Gpu | None:
    """The GPU of target `cuda`, None for `cpu`. OptkitError where there is none that torch can use."""
    if target == "cpu":
        return None
    gpu = cuda_probe.probe()
    import torch

    if not torch.cuda.is_available():
        raise OptkitError(
            f"Expected a torch that can use the {gpu.name}, received torch {torch.__version__} without CUDA.",
            hint="Install a torch built for CUDA: https://pytorch.org/get-started.",
        )
    return gpu


def target_of(artifact: Artifact) -> str:
    """Where `artifact` is served, by its format and by the runtime options in its manifest."""
    options = (artifact.manifest.get("runtime") or {}).get("options", {})
    return "cuda" if artifact.format == "tensorrt" or "cuda" in map(str, options.values()) else "cpu"


def eager_options(target: str) -> dict[str, Any]:
    """How the baseline runs: on the GPU with attention written out, as an unprepared model would."""
    return {"device": "cuda", "attention": "eager"} if target == "cuda" else {}


def tuned(target: str) -> tuple[str, Chain]:
    """Name and passes of the fp32 baseline that nothing chosen may be slower than."""
    if target == "cuda":
        return "torch-sdpa-fp32", [("serve-torch", {"device": "cuda", "dtype": "fp32"})]
    return "onnxruntime-fp32", [("export-onnx", {})]


def gpu_chains(gpu: Gpu, is_there: Callable[[str], bool] | None = None) -> list[Chain]:
    """Every way to serve on `gpu` with the packages that are installed (see `installed`)."""
    there = is_there or installed
    schemes = ("int8", "fp8") if float(gpu.capability) >= FP8_CAPABILITY else ("int8",)

    def torch(**fields: Any) -> Chain:
        return [("serve-torch", {"device": "cuda", **fields})]

    chains = [torch(dtype=dtype, compile=on) for dtype in ("fp16", "bf16") for on in (False, True)]
    if there("torchao"):
        chains += [torch(dtype="bf16", compile=True, quantize=scheme) for scheme in schemes]
    plain: Chain = [("export-onnx", {"attention": "plain"})]
    if there("onnxruntime-gpu"):
        chains.append([*plain, ("cast-fp16", {}), ("serve-onnx-runtime", {"provider": "cuda"})])
    if there("tensorrt"):
        chains += [[*plain, (cast, {}), ("tensorrt", {})] for cast in ("cast-fp16", "cast-bf16")]
        for scheme in schemes:
            chains.append(
                [*plain, ("quantize-tensorrt", {"kind": scheme}), ("cast-fp16", {}), ("tensorrt", {})]
            )
    return chains


def installed(package: str) -> bool:
    """Whether `package` is there, by its module; onnxruntime-gpu by name, for its module is onnxruntime's."""
    if package != "onnxruntime-gpu":
        return util.find_spec(package) is not None
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False
