"""`prune`: remove attention heads and FFN neurons; what comes out is a smaller checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from optkit.core.artifact import Artifact
from optkit.core.quantities import SEED
from optkit.errors import DataError, RecipeError
from optkit.models.uneven.layout import check_kind
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.pruning.criteria import CRITERIA, FROM_GRADIENTS
from optkit.passes.pruning.latency import PRECISIONS
from optkit.tasks.base import Task

if TYPE_CHECKING:
    import torch


#: Fewer calibration examples than this say too little about any unit.
FEWEST = 32
#: Tokens per calibration batch.
BATCH_TOKENS = 2048
#: Criterion → the refit that belongs to it.
_REFIT = {"fisher": "scales", "kprune": "projection"}


@dataclass(frozen=True)
class Prune(Pass):
    """Structured pruning: whole heads and FFN neurons are cut out, without retraining and without labels.

    `share` is removed from the encoder's cost; each layer keeps what the search gives it, down to
    no attention or no FFN at all. Criteria: `kprune` (gradients and the error after a refit, output
    projections refitted), `fisher` (mask gradients, rearranged, one scale per unit), `taylor`,
    `magnitude`, and `random` as the control. The result loads with `optkit.load_model`, trains,
    exports, and can be pruned again. Notes: units per layer before and after, and the share removed.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    needs_data: ClassVar[bool] = True
    needs_own_data: ClassVar[bool] = True
    suffix: ClassVar[str] = "pruned"
    keeps_answers: ClassVar[bool] = False

    share: float = param(0.5, "share of the cost to remove, between 0 and 1", minimum=0.0, maximum=1.0)
    of: str = param("flops", "the cost that is shared out", choices=("flops", "parameters", "latency"))
    target: float | None = param(
        None,
        "what may stay, in place of share: ms (latency), FLOPs per token, or parameters",
        minimum=0.0,
        maximum=1e18,
    )
    criterion: str = param("kprune", "what a unit is worth", choices=CRITERIA)
    refit: str = param(
        "auto",
        "least squares after the cut: one scale per unit, or the output projection; auto: the criterion's",
        choices=("auto", "none", "scales", "projection"),
    )
    ffn_multiple: int = param(16, "FFN widths are multiples of this, as kernels like", minimum=1)
    samples: int = param(1024, "training examples to calibrate on; labels are not used", minimum=FEWEST)
    max_length: int = param(128, "tokens per calibration example, longer ones are cut", minimum=4)
    tokens: int = param(128, "sequence length that costs are counted at", minimum=1)
    latency_precision: str = param("fp32", "of the graphs whose latency is measured", choices=PRECISIONS)
    seed: int = param(0, "seed of the criterion random", of=SEED)
    rounds: int = param(1, "scores are taken anew in so many rounds: a gradual schedule", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share < 1:
            raise RecipeError(
                f"Expected prune.share to lie between 0 and 1, received {self.share:g}: "
                + ("nothing would be removed." if self.share == 0 else "nothing would be left."),
                hint="0.6 removes 60% of the encoder's FLOPs.",
            )
        if self.target == 0:
            raise RecipeError("Expected prune.target above 0, received 0: nothing would be left.")

    def check(self, checkpoint: Artifact, task: Task) -> None:
        if checkpoint.config.get("model_type"):
            check_kind(checkpoint.config)

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        from optkit.models.checkpoint import load_model, save_model
        from optkit.passes.pruning.prune import Plan, prune

        context.progress("loading the checkpoint", 0.0)
        if context.threads:
            import torch

            torch.set_num_threads(context.threads)
        model = load_model(source, context.task.name, context.trust_remote_code)
        refit = _REFIT.get(self.criterion, "none") if self.refit == "auto" else self.refit
        needed = self.criterion in FROM_GRADIENTS or refit != "none"
        batches, count = calibration(model, context, self.samples, self.max_length) if needed else ([], 0)
        plan = Plan(
            self.share,
            self.of,
            self.criterion,
            refit,
            self.ffn_multiple,
            self.tokens,
            self.seed,
            self.rounds,
            self.target,
            self.latency_precision,
            context.threads,
        )
        parameters = _parameters(model)
        notes = prune(model, plan, batches, context.progress)
        save_model(model, source, out)
        return {
            **notes,
            "refit": refit,
            "calibration_examples": count,
            "parameters": {"before": parameters, "after": _parameters(model)},
        }


def calibration(
    model: torch.nn.Module, context: PassContext, samples: int, max_length: int
) -> tuple[list[dict[str, torch.Tensor]], int]:
    """Calibration feeds, neighbours in length together, and the number of examples."""
    import torch

    from optkit.models.checkpoint import model_inputs

    encoded = context.encoded("train", samples)
    if len(encoded) < FEWEST:
        raise DataError(
            f"Expected at least {FEWEST} training examples to calibrate on, received {len(encoded)}.",
            hint='Give more text (labels are not used), or criterion = "magnitude" with refit = "none".',
        )
    names = model_inputs(model)
    encoded = encoded.cut(max_length)
    feeds = (encoded.batch(indices) for indices in encoded.batches(32, BATCH_TOKENS))
    return [{n: torch.from_numpy(f[n]) for n in names} for f in feeds], len(encoded)


def _parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
