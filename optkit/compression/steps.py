"""The steps of a recipe: passes, alternatives, and the order in which they fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from optkit.errors import RecipeError
from optkit.passes import PASSES
from optkit.passes.base import Pass
from optkit.tasks.base import Task


@dataclass(frozen=True)
class AnyOf:
    """Alternatives tried from the same point; each is a chain of passes.

    `of_language_models` are those that stand in place of it, and of the export before it, for a model that
    continues texts.
    """

    options: tuple[tuple[Pass, ...], ...]
    of_language_models: tuple[tuple[Pass, ...], ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(tuple(option) for option in self.options))
        if not self.options or not all(self.options):
            raise RecipeError("Expected at least one pass in each alternative of any_of, received none.")


def options_of(step: Pass | AnyOf) -> tuple[tuple[Pass, ...], ...]:
    """The chains that `step` stands for."""
    return step.options if isinstance(step, AnyOf) else ((step,),)


def suited(steps: Sequence[Pass | AnyOf], task: Task) -> tuple[Pass | AnyOf, ...]:
    """`steps` with what suits a model for `task`."""
    chosen: list[Pass | AnyOf] = []
    for step in steps:
        if task.generates and not task.has_encoder and isinstance(step, AnyOf) and step.of_language_models:
            chosen[-1] = AnyOf(step.of_language_models)
        else:
            chosen.append(step)
    return tuple(chosen)


def check_order(steps: Sequence[Pass | AnyOf]) -> None:
    """Follow the formats from "hf" through every alternative; numbers are those of the recipe's steps."""
    arriving = {"hf": "the checkpoint"}
    for number, step in enumerate(steps, start=1):
        leaving = {}
        for option in options_of(step):
            for format, maker in arriving.items():
                for one in option:
                    if not isinstance(one, Pass):
                        raise RecipeError(f"Expected step {number} to be a pass, received {one!r}.")
                    if format not in one.accepts:
                        raise _wrong_order(number, one, format, maker)
                    format, maker = one.produces, f"{one.name()} (step {number})"
                leaving[format] = maker
        arriving = leaving


def check_repair(names: list[str]) -> None:
    """Distillation repairs what cutting damaged, so it comes after it (again, where both are repeated)."""
    last = {name: index for index, name in enumerate(names)}
    if "distill" not in last:
        return
    for name in ("prune", "prune-width", "take-layers"):
        if last.get(name, -1) > last["distill"]:
            raise RecipeError(
                f"Expected 'distill' after the last {name!r}, received it before: what the student learned "
                "would be cut away again.",
                hint="The order is prune, distill, export-onnx, quantize.",
            )
    if "prune-vocabulary" in names[: last["distill"]]:
        raise RecipeError(
            "Expected 'prune-vocabulary' after 'distill', received it before: teacher and student would read "
            "texts by other tokens.",
            hint="The order is prune, distill, prune-vocabulary, export-onnx, quantize.",
        )


def _wrong_order(number: int, step: Pass, format: str, maker: str) -> RecipeError:
    known = PASSES.items()
    makers = sorted(n for n, cls in known if cls.produces in step.accepts and format in cls.accepts)
    return RecipeError(
        f"Step {number}, {step.name()}, expects the format {' or '.join(sorted(step.accepts))}, "
        f"received {format!r} from {maker}.",
        hint=f"Put {' or '.join(makers)} before it." if makers else _order_hint(step, maker),
    )


def _order_hint(step: Pass, maker: str) -> str:
    if "hf" not in step.accepts:
        return "Check the order of the passes."
    return (
        f"{step.name()} changes the checkpoint itself: put it before {maker.split(' (')[0]}. "
        "The order is prune, distill, export-onnx, quantize."
    )
