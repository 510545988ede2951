"""`take-layers`: a shallower student, made of some of the checkpoint's own layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optkit.artifact import Artifact
from optkit.errors import RecipeError
from optkit.passes.base import Pass, PassContext, param


@dataclass(frozen=True)
class TakeLayers(Pass):
    """Whole layers are left out: the first step to a student, which `distill` then trains.

    `layers` stay, at even distances from the last one down (Sanh et al. 2019 take every second), or those
    whose numbers, from 1, `which` gives. Pruned checkpoints keep the widths of the layers that stay. The
    result loads with `optkit.load_model`; where nothing was pruned before, with transformers alone too.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    keeps_answers: ClassVar[bool] = False

    layers: int | None = param(None, "how many layers stay; none: half of them", minimum=1)
    which: tuple[int, ...] = param((), "the layers that stay, numbered from 1; none: evenly spread")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.which and self.layers not in (None, len(self.which)):
            raise RecipeError(
                f"Expected take-layers.layers to be the number of take-layers.which, {len(self.which)}, "
                f"received {self.layers}."
            )
        if list(self.which) != sorted(set(self.which)) or any(n < 1 for n in self.which):
            raise RecipeError(
                f"Expected take-layers.which to be rising numbers from 1, received {list(self.which)}."
            )

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        from optkit.checkpoint import load_model, save_model
        from optkit.pruning.depth import keep_layers

        model = load_model(source, context.task.name, context.trust_remote_code)
        depth = model.config.num_hidden_layers
        count = len(self.which) or self.layers or max(1, depth // 2)
        if count >= depth or any(n > depth for n in self.which):
            raise RecipeError(
                f"Expected fewer than the {depth} layers that {str(source.path)!r} has, received "
                f"{list(self.which) or count}."
            )
        kept = list(self.which) or evenly(depth, count)
        keep_layers(model, [n - 1 for n in kept])
        save_model(model, source, out)
        return {"layers_before": depth, "layers_kept": kept}


def evenly(depth: int, count: int) -> list[int]:
    """`count` of the layers 1 to `depth`, at even distances, the last one among them.

    >>> evenly(6, 3)
    [2, 4, 6]
    """
    return [round((i + 1) * depth / count) for i in range(count)]
