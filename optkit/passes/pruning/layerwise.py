"""Run a model layer by layer, with the arguments that its layers really get."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optkit.errors import CheckpointError
from optkit.models.uneven.layout import Sublayer, base_of

if TYPE_CHECKING:
    import torch
    from torch.utils.hooks import RemovableHandle


@dataclass
class Stream:
    """One batch between two layers: `hidden` (examples, tokens, size), `calls[i]` the other arguments of
    layer i, `valid` (examples, tokens) false where the token is padding."""

    hidden: torch.Tensor
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    valid: torch.Tensor

    def through(self, layer: torch.nn.Module, index: int) -> torch.Tensor:
        """What `layer` makes of the hidden state when it stands at `index`."""
        arguments, named = self.calls[index]
        out = layer(self.hidden, *arguments, **named)
        return out[0] if isinstance(out, tuple) else out


def streams(
    model: torch.nn.Module, places: Sequence[Sublayer], batches: Sequence[dict[str, torch.Tensor]]
) -> list[Stream]:
    """Each batch as it enters the first layer."""
    import torch

    if getattr(getattr(base_of(model), "encoder", None), "conv", None):
        raise CheckpointError(
            f"Cannot refit {type(model).__name__}: a convolution lies between its layers.",
            hint='Use refit = "none".',
        )
    layers = [sublayer.layer for sublayer in places if sublayer.kind == "heads"]
    result = []
    with torch.no_grad(), _without_cache(model):
        for feeds in batches:
            seen: list[tuple[torch.Tensor, tuple[Any, ...], dict[str, Any]]] = []
            with _hooks([layer.register_forward_pre_hook(_keep(seen), with_kwargs=True) for layer in layers]):
                model(**feeds)
            hidden = seen[0][0]
            mask = feeds.get("attention_mask")
            if mask is not None and mask.shape == hidden.shape[:2]:
                valid = mask.bool()
            else:
                valid = torch.ones(hidden.shape[:2], dtype=torch.bool)
            result.append(Stream(hidden, [(a, k) for _, a, k in seen], valid))
    return result


@dataclass
class Passage:
    """What one sublayer saw in one layer's run: `inputs` and `outputs` of its output projection, and
    the `residual` that its output is added to."""

    inputs: torch.Tensor = None
    outputs: torch.Tensor = None
    residual: torch.Tensor = None


def observe(stream: Stream, heads: Sublayer, ffn: Sublayer) -> tuple[Passage, Passage, torch.Tensor]:
    """Run one layer on `stream`; what its two sublayers saw, and the new hidden state."""
    import torch

    seen, entered = (Passage(), Passage()), []
    handles = [
        sublayer.output.register_forward_hook(_see(passage)) for sublayer, passage in zip((heads, ffn), seen)
    ]
    core = ffn.layer.get_submodule(ffn.core)
    handles.append(core.register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0])))
    with _hooks(handles), torch.no_grad():
        out = stream.through(heads.layer, heads.index)
    seen[0].residual = stream.hidden
    added = stream.hidden + heads.scale * seen[0].outputs
    seen[1].residual = entered[0] if ffn.layout.post_norm else added
    return *seen, out


def observe_heads(stream: Stream, heads: Sublayer) -> Passage:
    """What the attention of one layer saw; the rest of the layer is not run."""
    import torch

    passage = Passage(residual=stream.hidden)

    def stop(module: torch.nn.Module, inputs: tuple[object, ...], output: torch.Tensor) -> None:
        passage.inputs, passage.outputs = inputs[0], output
        raise _Seen

    with _hooks([heads.output.register_forward_hook(stop)]), torch.no_grad(), suppress(_Seen):
        stream.through(heads.layer, heads.index)
    return passage


class _Seen(Exception):
    """Ends a layer's run: what was looked for has been seen."""


@contextmanager
def _without_cache(model: torch.nn.Module) -> Iterator[None]:
    """A decoder's layer that runs twice must not meet the keys and values of its first run."""
    before = getattr(model.config, "use_cache", None)
    model.config.use_cache = False
    try:
        yield
    finally:
        if before is None:
            del model.config.use_cache
        else:
            model.config.use_cache = before


@contextmanager
def _hooks(handles: list[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _see(passage: Passage) -> Callable[..., None]:
    def see(module: torch.nn.Module, inputs: tuple[object, ...], output: torch.Tensor) -> None:
        passage.inputs, passage.outputs = inputs[0], output

    return see


def _keep(seen: list[Any]) -> Callable[..., None]:
    def keep(module: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        named = dict(named)
        hidden = arguments[0] if arguments else named.pop("hidden_states")
        seen.append((hidden, arguments[1:], named))

    return keep
