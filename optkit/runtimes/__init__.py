"""The runtimes, one file each, which has an `open_session`."""

from __future__ import annotations

from types import ModuleType

from optkit.core.registry import Registry

#: Only these can be named, in a manifest or by a caller.
RUNTIMES: Registry[ModuleType] = Registry(
    "runtime",
    "optkit.runtimes",
    {name: f"optkit.runtimes.{name}" for name in ("onnxruntime", "openvino", "tensorrt", "torch")},
)
