"""`take-layers`: a shallower student, made of some of the checkpoint's own layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optkit.core.artifact import Artifact
from optkit.errors import RecipeError
from optkit.models.uneven.layout import check_kind
from optkit.passes.base import Pass, PassContext, param
from optkit.tasks.base import Task


@dataclass(frozen=True)
class TakeLayers(Pass):
    """Whole layers are left out: the first step to a student, which `distill` then trains.

    `layers` stay, at even distances from the last one down (Sanh et al. 2019 take every second), or those
    whose numbers, from 1, `which` gives. Pruned checkpoints keep the widths of the layers that stay. The
    result loads with `optkit.load_model`; where nothing was pruned before, with transformers alone too.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    suffix: ClassVar[str] = "cut"
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

    def check(self, checkpoint: Artifact, task: Task) -> None:
        """Passes before it may leave fewer layers than `checkpoint` has, and never more."""
        if checkpoint.config.get("model_type"):
            check_kind(checkpoint.config)
        if depth := layer_count(checkpoint.config):
            self._kept(depth, checkpoint)

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        from optkit.models.checkpoint import load_model, save_model
        from optkit.passes.pruning.depth import keep_layers

        model = load_model(source, context.task.name, context.trust_remote_code)
        depth = model.config.num_hidden_layers
        layers = self._kept(depth, source)
        keep_layers(model, [n - 1 for n in layers])
        save_model(model, source, out)
        return {"layers_before": depth, "layers_kept": layers}

    def _kept(self, depth: int, source: Artifact) -> list[int]:
        """The layers, of the `depth` that `source` has, that stay. Raises RecipeError where none would go."""
        count = len(self.which) or self.layers or max(1, depth // 2)
        if count >= depth or any(n > depth for n in self.which):
            raise RecipeError(
                f"Expected fewer than the {depth} layers that {str(source.path)!r} has, received "
                f"{list(self.which) or count}.",
                hint="Give fewer layers, or leave take-layers out.",
            )
        return list(self.which) or evenly(depth, count)


def layer_count(config: dict[str, Any]) -> int:
    """The number of layers by a config.json; 0 where it does not say it."""
    named = (config.get(name) for name in ("num_hidden_layers", "n_layers", "n_layer"))
    return next((depth for depth in named if isinstance(depth, int) and depth), 0)


def evenly(depth: int, count: int) -> list[int]:
    """`count` of the layers 1 to `depth`, at even distances, the last one among them.

    >>> evenly(6, 3)
    [2, 4, 6]
    """
    return [round((i + 1) * depth / count) for i in range(count)]
