"""Which models a pass takes: not every one those with a cache, or of two parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optkit.core.artifact import Artifact
from optkit.errors import PassError
from optkit.passes import PASSES
from optkit.tasks.base import Task

if TYPE_CHECKING:
    from optkit.passes.base import Pass


def refuse_cache(step: Pass, source: Artifact, task: Task) -> None:
    """Raise PassError where `source` is a graph with a cache, and `step` takes none such."""
    if task.generates and source.format == "onnx" and not step.takes_cache:
        able = ", ".join(sorted(n for n, cls in PASSES.items() if cls.takes_cache))
        raise PassError(
            f"{step.name()} does not take the graph of a language model, which has a cache.",
            hint=f"These do: {able}.",
        )


def refuse_encoder_decoder(step: Pass, task: Task) -> None:
    """Raise PassError where models for `task` have an encoder and a decoder, or a tower for texts and one for
    images, and `step` takes none such."""
    if task.has_encoder and not step.takes_encoder_decoder:
        if step.produces == "hf":
            raise PassError(
                f"{step.name()} does not take a model for {task.name}, which has an encoder and a decoder.",
                hint="A smaller checkpoint learns from its texts: optkit predict THIS --input INPUTS.jsonl "
                f"--keep {task.columns['text'][0]} --output DATA/train.jsonl, then optkit finetune SMALLER "
                f"--task {task.name} --data DATA --label-column text.",
            )
        parts, able = "an encoder and a decoder", [n for n, x in PASSES.items() if x.takes_encoder_decoder]
    elif task.has_towers and not step.takes_towers:
        parts, able = "two towers", [n for n, x in PASSES.items() if x.takes_towers]
    else:
        return
    raise PassError(
        f"{step.name()} does not take a model for {task.name}, which has {parts}.",
        hint=f"These do: {', '.join(sorted(able))}.",
    )
