"""`prune-width`: cut the hidden dimension, which every layer and the embeddings share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optkit.core.artifact import Artifact
from optkit.errors import RecipeError
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.prune import calibration
from optkit.tasks.base import Task


@dataclass(frozen=True)
class PruneWidth(Pass):
    """The hidden dimension is cut: embeddings shrink too, and every projection reads and writes less.

    At least `share` of the dimensions goes, those with the least Fisher information over `samples` training
    texts, without labels. The norms look at what is left, so the answers change much: `distill` has to
    follow, with relations, for hidden states of another width cannot be compared. Encoders only (BERT,
    RoBERTa, ELECTRA, DistilBERT). Notes: the dimension before and after, parameters.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    needs_data: ClassVar[bool] = True
    needs_own_data: ClassVar[bool] = True
    suffix: ClassVar[str] = "pruned"
    keeps_answers: ClassVar[bool] = False

    share: float = param(0.25, "share of the hidden dimensions to remove", minimum=0.0, maximum=1.0)
    multiple: int = param(16, "the dimension left is a multiple of this, as kernels like", minimum=1)
    samples: int = param(256, "training texts to calibrate on; labels are not used", minimum=32)
    max_length: int = param(128, "tokens per calibration text, longer ones are cut", minimum=4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share < 1:
            raise RecipeError(f"Expected prune-width.share between 0 and 1, received {self.share:g}.")

    def check(self, checkpoint: Artifact, task: Task) -> None:
        from optkit.passes.pruning.width import check_width_of

        if kind := checkpoint.config.get("model_type"):
            check_width_of(kind, task.embeds)

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        from optkit.models.checkpoint import load_model, save_model
        from optkit.models.uneven.hidden import cut_width, width_of
        from optkit.models.uneven.surgery import record
        from optkit.passes.pruning.select import best
        from optkit.passes.pruning.width import importance, readers_of

        model = load_model(source, context.task.name, context.trust_remote_code)
        width = width_of(model)
        left = max(self.multiple, int((1 - self.share) * width / self.multiple) * self.multiple)
        if left >= width:
            raise RecipeError(
                f"Expected a share that removes at least {self.multiple} of {width} dimensions, received "
                f"{self.share:g}.",
                hint="Give a larger share, or a smaller prune-width.multiple.",
            )
        batches, count = calibration(model, context, self.samples, self.max_length)
        readers = readers_of(model, batches[0])
        context.progress("gradients of the mask", 0.1)
        before = sum(p.numel() for p in model.parameters())
        keep = best(importance(model, batches), left)
        record(model)
        cut_width(model, keep, readers)
        save_model(model, source, out)
        return {
            "hidden": {"before": width, "after": left},
            "parameters": {"before": before, "after": sum(p.numel() for p in model.parameters())},
            "calibration_examples": count,
        }
