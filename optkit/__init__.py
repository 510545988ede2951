"""optkit takes a fine-tuned transformer checkpoint and makes it cheap to serve, with proof.

>>> import optkit
>>> report = optkit.compress("ckpt", optkit.Recipe.int8(), data="data", out="models/small")  # doctest: +SKIP
>>> optkit.load("models/small").predict(["a fine film"])                                     # doctest: +SKIP
[Classification(label='positive', score=0.998, ...)]

Every name below loads on first use, so that `import optkit` costs nothing and a serving
process never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from optkit.core.telemetry import switch_off
from optkit.core.version import __version__

switch_off()

if TYPE_CHECKING:
    from optkit.artifact import Artifact
    from optkit.benchmarking.benchmark import benchmark
    from optkit.benchmarking.gate import Gate
    from optkit.compression.compress import compress
    from optkit.compression.recipe import Recipe
    from optkit.errors import OptkitError
    from optkit.models.checkpoint import load_model
    from optkit.passes.distill import Distill
    from optkit.passes.prune import Prune
    from optkit.report.model import Report
    from optkit.runtimes.base import open_session
    from optkit.serving.predictor import Predictor, load

_HOME = {
    "Artifact": "optkit.artifact",
    "Gate": "optkit.benchmarking.gate",
    "OptkitError": "optkit.errors",
    "Predictor": "optkit.serving.predictor",
    "Distill": "optkit.passes.distill",
    "Prune": "optkit.passes.prune",
    "Recipe": "optkit.compression.recipe",
    "Report": "optkit.report.model",
    "benchmark": "optkit.benchmarking.benchmark",
    "compress": "optkit.compression.compress",
    "load": "optkit.serving.predictor",
    "load_model": "optkit.models.checkpoint",
    "open_session": "optkit.runtimes.base",
}

__all__ = [
    "Artifact",
    "Distill",
    "Gate",
    "OptkitError",
    "Predictor",
    "Prune",
    "Recipe",
    "Report",
    "__version__",
    "benchmark",
    "compress",
    "load",
    "load_model",
    "open_session",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'optkit' has no attribute {name!r}; it has: {', '.join(__all__)}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
