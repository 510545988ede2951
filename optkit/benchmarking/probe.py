"""The process that asks an INT8 model: is it INT8, do answers depend on neighbours, where does time go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from optkit.benchmarking import batch_invariance, int8_share
from optkit.benchmarking.accuracy import save_outputs
from optkit.core.artifact import Artifact
from optkit.data.examples import EncodedSet
from optkit.runtimes.base import open_session

#: batch × tokens that the profile is taken at.
PROFILED = (8, 128)


class Probe:
    """Calls arrive through `optkit.core.process.Child`."""

    emit: Callable[..., None]

    def ask(
        self,
        artifact: str,
        runtime: str,
        options: dict[str, Any],
        encoded: str,
        out: str,
        longest: int | None = None,
    ) -> dict[str, Any] | None:
        """Write alone.npz, padded.npz and batched.npz into the folder `out`; gives the INT8 share.

        `longest` bounds the tokens of the profile's batch: the model's maximum.
        """
        model, examples = Artifact.open(artifact), EncodedSet.load(Path(encoded))
        with open_session(model, runtime, **options) as session:
            for name, outputs in batch_invariance.ask(session, examples).items():
                save_outputs(Path(out) / f"{name}.npz", outputs)
            if session.precision is not None:  # as the manifest says
                options = {**options, "precision": session.precision}
        batch, tokens = PROFILED
        if examples.is_sound:  # so few samples are no sound; one of them, since none shares a batch
            feeds = examples.batch([_middle(examples)])
        else:
            feeds = examples.of_shape(batch, min(tokens, longest or tokens))
        share = int8_share.measure(model, runtime, feeds, options)
        return share.to_dict() if share else None

    def kernel_times(self, artifact: str, encoded: str, options: dict[str, Any]) -> dict[str, float]:
        """Node → microseconds in ONNX Runtime, for one example of median length."""
        examples = EncodedSet.load(Path(encoded))
        feeds = examples.batch([_middle(examples)])
        return int8_share.kernel_times(Artifact.open(artifact), feeds, options)


def _middle(examples: EncodedSet) -> int:
    """Where the example of median length lies."""
    return int(np.argsort(examples.lengths, kind="stable")[len(examples) // 2])


def serve() -> Probe:
    return Probe()
