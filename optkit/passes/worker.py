"""The process in which one pass runs: its memory goes back when it ends, and a crash ends it alone."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optkit.core.artifact import Artifact
from optkit.data.dataset import Data
from optkit.data.examples import EncodedSet
from optkit.events import Events, Progress
from optkit.passes import graph, sensitivity
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.passes.quantize_static import QuantizeStatic
from optkit.passes.tower_graphs import calibration_rows
from optkit.tasks.base import Columns, open_task
from optkit.training.trainer.distributed import World


class PassWorker:
    """Calls arrive through `optkit.core.process.Child`; `emit` sends progress back."""

    emit: Events

    def run(
        self,
        step: str,
        parameters: dict[str, Any],
        source: str,
        final: str,
        task: str,
        data: str | None,
        columns: dict[str, str | None],
        threads: int | None,
        trust_remote_code: bool,
        origin: str | None = None,
        metric: str | None = None,
        calibration: str | None = None,
    ) -> dict[str, Any]:
        """Run pass `step` on the artifact at `source` into `final`; gives its peak memory in bytes.

        `calibration` is a file of encoded inputs that stand in for data where ranges are taken.
        `metric` is what a pass that trains chooses by; None: the task's first.
        """
        artifact = Artifact.open(source)
        if artifact.format == "hf":  # the pass needs it anyway, and the task asks it how texts are read
            import transformers  # noqa: F401
        context = make_context(
            open_task(artifact, task, metric),
            Data(data) if data else None,
            Columns(**columns),
            lambda text, fraction: self.emit(Progress(text, fraction)),
            threads,
            trust_remote_code,
            origin,
            EncodedSet.load(Path(calibration)) if calibration else None,
        )
        if World.current().is_first:
            apply(make(step, parameters), artifact, Path(final), context)
        else:  # under torchrun: help to train, and leave the writing to the first process
            beside = Path(final).parent
            beside.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=beside, prefix=".helper-") as folder:
                make(step, parameters).run(artifact, Path(folder), context)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"peak_rss_bytes": peak if sys.platform == "darwin" else peak * 1024}

    def scan(
        self,
        parameters: dict[str, Any],
        source: str,
        task: str,
        data: str,
        columns: dict[str, str | None],
        threads: int | None,
    ) -> list[list[Any]]:
        """[name, distance] of the multiplies that `quantize-static` would quantize, most sensitive first."""
        artifact = Artifact.open(source)
        context = make_context(open_task(artifact, task), Data(data), Columns(**columns))
        step = make("quantize-static", parameters)
        assert isinstance(step, QuantizeStatic)
        samples = context.encoded("train", sensitivity.EXAMPLES)
        read = calibration_rows(samples, context.task)
        distances = [
            one
            for name in graph.names_in(artifact.path)
            for one in sensitivity.scan(
                artifact,
                read.get(name, samples),
                step.chosen(graph.load_graph(artifact.path, name), artifact, name),
                lambda text, fraction: self.emit(Progress(text, fraction)),
                threads,
                step.calibration,
                step.percentile,
                name,
            )
        ]
        return [[name, distance] for name, distance in sorted(distances, key=lambda pair: -pair[1])]


def serve() -> PassWorker:
    return PassWorker()
