"""`View`: run a model and look at what a student is compared by, its answers and its inner states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optkit.errors import RecipeError
from optkit.models.checkpoint import model_outputs
from optkit.models.uneven.layout import LAYOUTS, Sublayer, sublayers

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Seen:
    """One batch: `outputs` by name, `states` (batch, tokens, width) each, and the queries, keys and
    values of one layer (batch, tokens, all heads) in `attention`, empty where they were not asked for."""

    outputs: dict[str, torch.Tensor]
    states: list[torch.Tensor]
    attention: list[torch.Tensor]


@dataclass(frozen=True)
class View:
    """`states` are numbers of hidden states (0: after the embeddings), `attention` one sublayer's heads."""

    model: torch.nn.Module
    states: Sequence[int] = ()
    attention: Sublayer | None = None

    def __call__(self, feeds: dict[str, torch.Tensor], names: Sequence[str] = ()) -> Seen:
        """Run the model; `names` are its outputs, where it does not say so itself."""
        caught: list[torch.Tensor] = []
        with _caught(self.attention, caught):
            wanted = {"output_hidden_states": True} if self.states else {}
            answer = self.model(**feeds, return_dict=True, **wanted)
        outputs = {name: answer[name] for name in names or model_outputs(self.model)}
        return Seen(outputs, [answer["hidden_states"][i] for i in self.states], caught)


def attention_of(model: torch.nn.Module, layer: int | None = None) -> Sublayer:
    """The heads of layer number `layer`; without a number those of the last layer that has any left."""
    if model.config.model_type not in LAYOUTS:
        raise RecipeError(
            f"Cannot compare attention in the architecture {model.config.model_type!r}.",
            hint=f"Use relations = 0. Known: {', '.join(sorted(LAYOUTS))}.",
        )
    heads = [sublayer for sublayer in sublayers(model) if sublayer.kind == "heads" and sublayer.units]
    if heads and heads[-1].stacked > 1:
        raise RecipeError(
            f"{model.config.model_type} projects queries, keys and values in one; relations need them apart.",
            hint="Use relations = 0.",
        )
    matches = [sublayer for sublayer in heads if layer is None or sublayer.index == layer]
    if not matches:
        raise RecipeError("Expected a layer with attention left, received none.", hint="Use relations = 0.")
    return matches[-1]


@contextmanager
def _caught(sublayer: Sublayer | None, caught: list[torch.Tensor]) -> Iterator[None]:
    """Behind the block `caught` holds the outputs of the first three projections of `sublayer`.

    Those of their first call: with share_att_key, as in DeBERTa-v3, relative positions go through them after
    the tokens have.
    """
    modules = sublayer.inputs[:3] if sublayer else []
    outputs: dict[torch.nn.Module, torch.Tensor] = {}

    def keep(
        module: torch.nn.Module, inputs: tuple[object, ...], output: torch.Tensor
    ) -> None:  # what a hook returns would replace the output
        outputs.setdefault(module, output)

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    caught += [outputs[module] for module in modules]
