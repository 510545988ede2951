"""Least squares, sublayer by sublayer from the bottom: make up for what was cut, without labels.

"scales" finds one factor per unit (the mask tuning of Kwon et al. 2022, its LSMR replaced by the
normal equations); "projection" finds the whole output projection and its bias (Park et al. 2023).
The target is what the unpruned model has after the sublayer, minus the residual that the pruned one
has before it, so errors of lower layers are made up for too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from optkit.models.uneven.layout import Sublayer, is_transposed, sublayers
from optkit.models.uneven.surgery import cut, shape_of
from optkit.passes.pruning.fit import Fit
from optkit.passes.pruning.layerwise import Passage, Stream, observe, observe_heads, streams
from optkit.passes.pruning.select import best, select

if TYPE_CHECKING:
    import torch


def cut_and_refit(
    model: torch.nn.Module,
    original: torch.nn.Module,
    counts: Mapping[str, int],
    importance: Mapping[str, np.ndarray],
    mode: str,
    batches: Sequence[dict[str, torch.Tensor]],
    reselect: bool = False,
    tick: Callable[[float], None] = lambda done: None,
) -> int:
    """Cut every sublayer, in place, to its `counts[name]` best units and refit it; how many were refitted.

    `original` is the model whose inner states the refit aims at; it may be larger, and is not changed.
    `mode` is "scales", "projection" or "none". With `reselect` the units are chosen anew: those whose
    loss the others can make up for go first, weighed with `importance` (see `optkit.passes.pruning.select`).
    """
    places = sublayers(model)
    if mode == "none":
        for sublayer in places:
            cut(sublayer, best(importance[sublayer.name], counts[sublayer.name]))
        return 0
    teacher = sublayers(original)
    theirs = streams(original, teacher, batches)
    ours = [Stream(s.hidden, s.calls, s.valid) for s in theirs]
    refitted = 0
    changed = shape_of(model) != shape_of(original)
    for at in range(0, len(places), 2):
        pair, original = places[at : at + 2], teacher[at : at + 2]
        targets: list[tuple[torch.Tensor, torch.Tensor]] = []
        for stream in theirs:
            heads, ffn, out = observe(stream, *original)
            scales = [place.scale for place in original]
            targets.append((_after(heads, stream, scales[0]), _after(ffn, stream, scales[1])))
            stream.hidden = out
        for which, sublayer in enumerate(pair):
            count = counts[sublayer.name]
            changed |= count < sublayer.units
            if changed:
                fit = _statistics(pair, which, ours, [t[which] for t in targets])
                keep = best(importance[sublayer.name], count)
                if reselect and 0 < count < sublayer.units:
                    keep = select(fit, sublayer.units, count, importance[sublayer.name])
                refitted += _apply(sublayer, keep, fit, mode)
            tick((at + which + 1) / len(places))
        for own, its in zip(ours, theirs):
            own.hidden = observe(own, *pair)[2] if changed else its.hidden
    return refitted


def _after(passage: Passage, stream: Stream, scale: torch.Tensor | float) -> torch.Tensor:
    return (passage.residual + scale * passage.outputs)[stream.valid]


def _statistics(pair: list[Sublayer], which: int, ours: list[Stream], targets: list[torch.Tensor]) -> Fit:
    """The normal equations of the output projection of `pair[which]`, all units still there."""
    import torch

    sublayer = pair[which]
    gram: torch.Tensor = 0.0
    cross: torch.Tensor = 0.0
    with torch.no_grad():
        for stream, target in zip(ours, targets):
            seen = observe(stream, *pair)[1] if which else observe_heads(stream, sublayer)
            wanted = (target - seen.residual[stream.valid]) / sublayer.scale
            inputs = seen.inputs[stream.valid] if sublayer.units else wanted[:, :0]
            inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
            gram = gram + (inputs.T @ inputs).double()
            cross = cross + (inputs.T @ wanted).double()
    weight = sublayer.output.weight.detach() if sublayer.units else cross[:0]
    weight = weight if is_transposed(sublayer.output) or not sublayer.units else weight.T
    bias = sublayer.output.bias
    last = torch.zeros(1, cross.shape[1]) if bias is None else bias.detach()[None]
    return Fit(gram, cross, torch.cat([weight, last]).double(), bias is not None)


def _apply(sublayer: Sublayer, keep: Sequence[int], fit: Fit, mode: str) -> bool:
    """Cut `sublayer` to the units `keep` and refit what is left; whether it was refitted."""
    import torch

    width = sublayer.width
    rows = [unit * width + i for unit in keep for i in range(width)]
    if fit.has_bias:
        rows.append(len(fit.gram) - 1)
    part = fit.only(rows)
    cut(sublayer, keep)
    if not rows or (mode == "scales" and not keep):
        return False
    new = part.scaled(len(keep), width) if mode == "scales" else part.solved()
    if new is None:
        return False
    with torch.no_grad():
        if fit.has_bias:
            sublayer.output.bias.copy_(new[-1])
            new = new[:-1]
        if keep:
            sublayer.output.weight.copy_(new if is_transposed(sublayer.output) else new.T)
    return True
