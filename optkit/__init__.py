"""optkit takes a fine-tuned transformer checkpoint and makes it cheap to serve, with proof.

>>> import optkit
>>> report = optkit.compress("ckpt", int8=True, data="data", out="models/small")  # doctest: +SKIP
>>> optkit.load("models/small").predict(["a fine film"])                          # doctest: +SKIP
[Classification(label='positive', score=0.998, ...)]

Every verb of the command line is a function of the same name here, and its flags are the parameters. Every
name below loads on first use: `import optkit` costs nothing, and a serving process never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from optkit.core.telemetry import switch_off
from optkit.core.version import __version__

switch_off()

if TYPE_CHECKING:
    from optkit.benchmarking.bench import bench
    from optkit.benchmarking.compare import Comparison, gate
    from optkit.benchmarking.gate import Gate
    from optkit.benchmarking.self_check import SelfCheck, self_check
    from optkit.compression.build import build
    from optkit.compression.compress import compress
    from optkit.compression.distill import distill
    from optkit.compression.recipe import Recipe
    from optkit.compression.search.run import SearchResult, search
    from optkit.core.artifact import Artifact
    from optkit.errors import OptkitError
    from optkit.events import Event
    from optkit.models.checkpoint import load_model
    from optkit.models.signing import sign
    from optkit.passes.distill import Distill
    from optkit.passes.prune import Prune
    from optkit.preprocessing.report import Preprocessed
    from optkit.preprocessing.run import preprocess
    from optkit.report.facts import Environment, GateResult, Winner
    from optkit.report.interval import Interval
    from optkit.report.model import Report, Row
    from optkit.runtimes.base import open_session
    from optkit.serving.package import Package, package
    from optkit.serving.predict import Predictions, predict
    from optkit.serving.predictor import Predictor, load
    from optkit.serving.serve import serve
    from optkit.tasks.base import Columns
    from optkit.training.run import finetune
    from optkit.training.trained import Trained
    from optkit.training.tune import tune
    from optkit.training.tuning.results import StudyResult

#: Name → the module that defines it.
_HOME = {
    "Artifact": "optkit.core.artifact",
    "Columns": "optkit.tasks.base",
    "Comparison": "optkit.benchmarking.compare",
    "Distill": "optkit.passes.distill",
    "Environment": "optkit.report.facts",
    "Event": "optkit.events",
    "Gate": "optkit.benchmarking.gate",
    "GateResult": "optkit.report.facts",
    "Interval": "optkit.report.interval",
    "OptkitError": "optkit.errors",
    "Package": "optkit.serving.package",
    "Predictions": "optkit.serving.predict",
    "Predictor": "optkit.serving.predictor",
    "Preprocessed": "optkit.preprocessing.report",
    "Prune": "optkit.passes.prune",
    "Recipe": "optkit.compression.recipe",
    "Report": "optkit.report.model",
    "Row": "optkit.report.model",
    "SearchResult": "optkit.compression.search.run",
    "SelfCheck": "optkit.benchmarking.self_check",
    "StudyResult": "optkit.training.tuning.results",
    "Trained": "optkit.training.trained",
    "Winner": "optkit.report.facts",
    "bench": "optkit.benchmarking.bench",
    "build": "optkit.compression.build",
    "compress": "optkit.compression.compress",
    "distill": "optkit.compression.distill",
    "finetune": "optkit.training.run",
    "gate": "optkit.benchmarking.compare",
    "load": "optkit.serving.predictor",
    "load_model": "optkit.models.checkpoint",
    "open_session": "optkit.runtimes.base",
    "package": "optkit.serving.package",
    "predict": "optkit.serving.predict",
    "preprocess": "optkit.preprocessing.run",
    "search": "optkit.compression.search.run",
    "self_check": "optkit.benchmarking.self_check",
    "serve": "optkit.serving.serve",
    "sign": "optkit.models.signing",
    "tune": "optkit.training.tune",
}

__all__ = [
    "Artifact",
    "Columns",
    "Comparison",
    "Distill",
    "Environment",
    "Event",
    "Gate",
    "GateResult",
    "Interval",
    "OptkitError",
    "Package",
    "Predictions",
    "Predictor",
    "Preprocessed",
    "Prune",
    "Recipe",
    "Report",
    "Row",
    "SearchResult",
    "SelfCheck",
    "StudyResult",
    "Trained",
    "Winner",
    "__version__",
    "bench",
    "build",
    "compress",
    "distill",
    "finetune",
    "gate",
    "load",
    "load_model",
    "open_session",
    "package",
    "predict",
    "preprocess",
    "search",
    "self_check",
    "serve",
    "sign",
    "tune",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'optkit' has no attribute {name!r}; it has: {', '.join(__all__)}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
