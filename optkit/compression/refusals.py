"""`check`: what is refused before any work, so that it costs a second and not an hour."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from optkit.compression.job import Job
from optkit.errors import DataError, PassError
from optkit.passes.base import Pass
from optkit.passes.taken import refuse_encoder_decoder


def check(job: Job, chains: Sequence[tuple[Pass, ...]]) -> None:
    """Ask every pass of `chains` whether it can work, before any work. Raises what `Pass.check` does."""
    refused = [_refusal(job, chain) for chain in chains]
    if refused and all(refused):
        raise refused[0]  # type: ignore[misc]  # none is None
    able = [chain for chain, why in zip(chains, refused) if why is None]
    for step in itertools.chain(*able):
        if job.calibration and step.needs_own_data:
            raise DataError(
                f"Expected data of the model's own task for {step.name()}, which learns from it or "
                "cuts by it; received none.",
                hint="Give --data; --int8 alone does without.",
            )
        step.check(job.source, job.task)


def _refusal(job: Job, chain: tuple[Pass, ...]) -> PassError | None:
    """Why a pass of `chain` takes no such model; a chain among others fails alone."""
    try:
        for step in chain:
            refuse_encoder_decoder(step, job.task)
    except PassError as error:
        return error
    return None
