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

from optkit._version import __version__

if TYPE_CHECKING:
    from optkit.artifact import Artifact
    from optkit.benchmarking import benchmark
    from optkit.checkpoint import load_model
    from optkit.compression import compress
    from optkit.errors import OptkitError
    from optkit.gate import Gate
    from optkit.passes.distill import Distill
    from optkit.passes.prune import Prune
    from optkit.recipe import Recipe
    from optkit.report.model import Report
    from optkit.serving.predictor import Predictor, load
    from optkit.session import open_session

_HOME = {
    "Artifact": "optkit.artifact",
    "Gate": "optkit.gate",
    "OptkitError": "optkit.errors",
    "Predictor": "optkit.serving.predictor",
    "Distill": "optkit.passes.distill",
    "Prune": "optkit.passes.prune",
    "Recipe": "optkit.recipe",
    "Report": "optkit.report.model",
    "benchmark": "optkit.benchmarking",
    "compress": "optkit.compression",
    "load": "optkit.serving.predictor",
    "load_model": "optkit.checkpoint",
    "open_session": "optkit.session",
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
