"""The `tensorrt` package, imported only after CUDA was found, and its version checked."""

from __future__ import annotations

from importlib import import_module, util
from typing import TYPE_CHECKING

from optkit.errors import MissingDependency, OptkitError
from optkit.runtimes.cuda import probe as cuda_probe
from optkit.runtimes.cuda.probe import Gpu

if TYPE_CHECKING:
    from types import ModuleType

    import tensorrt


OLDEST, NEWEST = (10, 13), (11, 99)
#: TensorRT's names of types → numpy's.
NUMPY = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


def open_library() -> tuple[ModuleType, Gpu]:
    """The `tensorrt` module and the GPU it will use.

    Raises MissingDependency where the package is not installed, OptkitError for no driver, no GPU,
    or a version that optkit does not know. The probe comes first: without a driver TensorRT may
    crash the process.
    """
    gpu = cuda_probe.probe()
    try:
        installed = util.find_spec("tensorrt") is not None
    except ValueError:  # a module without a spec
        installed = True
    if not installed:
        raise MissingDependency.of("tensorrt", "tensorrt")
    library = import_module("tensorrt")
    if not OLDEST <= version(library)[:2] <= NEWEST:
        raise OptkitError(
            f"Expected TensorRT 10.13 to 11, received {library.__version__}.",
            hint='Install one with: pip install "optkit[tensorrt]"',
        )
    return library, gpu


def version(library: ModuleType) -> tuple[int, ...]:
    return tuple(int(part) for part in library.__version__.split(".") if part.isdigit())


def make_logger(library: ModuleType) -> tensorrt.ILogger:
    return library.Logger(library.Logger.ERROR)


def make_runtime(library: ModuleType, version_compatible: bool) -> tensorrt.Runtime:
    """A runtime; a version-compatible engine carries code of its own, which has to be allowed."""
    runtime = library.Runtime(make_logger(library))
    if version_compatible:
        runtime.engine_host_code_allowed = True
    return runtime


def numpy_type(dtype: tensorrt.DataType) -> str:
    """numpy's name for an input's or output's type; OptkitError where numpy has none."""
    if dtype.name not in NUMPY:
        raise OptkitError(
            f"Expected inputs and outputs of {', '.join(NUMPY)}, received {dtype.name}.",
            hint="The passes cast-fp16 and cast-bf16 keep inputs and outputs in fp32.",
        )
    return NUMPY[dtype.name]
