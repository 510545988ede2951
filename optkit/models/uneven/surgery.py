"""Cut units out of a model: the weights get smaller, the function stays that of the masked model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from optkit.models.uneven.absent import absent_class, bias_only_class
from optkit.models.uneven.key import CONFIG_KEY
from optkit.models.uneven.layout import Sublayer, is_transposed, sublayers

if TYPE_CHECKING:
    import torch


def cut(sublayer: Sublayer, keep: Sequence[int]) -> None:
    """Keep the units `keep` of this sublayer, in place; with none left only its bias stays.

    Works on any device, "meta" included. Gradients and optimizer states are not carried over.
    """
    import torch

    units, width = sublayer.units, sublayer.width
    keep = sorted(int(i) for i in keep)
    if len(keep) == units:
        return
    if not keep:
        _remove(sublayer)
        return
    device = sublayer.output.weight.device
    index = torch.tensor(keep, device="cpu").to(device)
    for module in sublayer.inputs:
        rows = _out(module) // (units * sublayer.stacked)
        picked = _spread(index, rows)
        blocks = [picked + block * units * rows for block in range(sublayer.stacked)]
        select_rows(module, torch.cat(blocks))
    select_columns(sublayer.output, _spread(index, width))
    if sublayer.kind == "heads":
        core = sublayer.layer.get_submodule(sublayer.core)
        head_size = getattr(core, sublayer.layout.head_size)
        for name in sublayer.layout.counts:
            setattr(core, name, len(keep))
        for name in sublayer.layout.sizes:
            setattr(core, name, len(keep) * head_size)


def shape_of(model: torch.nn.Module) -> dict[str, list[int]]:
    """Units left per layer, {"heads": [...], "ffn": [...]}: what config.json stores."""
    units: dict[str, list[int]] = {"heads": [], "ffn": []}
    for sublayer in sublayers(model):
        units[sublayer.kind].append(sublayer.units)
    return units


def record(model: torch.nn.Module) -> None:
    """Write the model's shape into its config, so that it can be loaded again."""
    before = getattr(model.config, CONFIG_KEY, None) or {}
    width = {key: before[key] for key in ("hidden", "readers") if key in before}
    setattr(model.config, CONFIG_KEY, {**shape_of(model), **width})


def _remove(sublayer: Sublayer) -> None:
    output = bias_only_class()(sublayer.output)
    inside = sublayer.output_path.startswith(sublayer.core + ".")
    name = sublayer.output_path.removeprefix(sublayer.core + ".") if inside else None
    gone = absent_class()(name, output if inside else None, pair=sublayer.kind == "heads")
    sublayer.layer.set_submodule(sublayer.core, gone)
    if not inside:
        sublayer.layer.set_submodule(sublayer.output_path, output)


def _out(module: torch.nn.Module) -> int:
    return module.weight.shape[1 if is_transposed(module) else 0]


def _spread(index: torch.Tensor, width: int) -> torch.Tensor:
    """Unit numbers → the numbers of all their rows, `width` each."""
    import torch

    return (index[:, None] * width + torch.arange(width, device=index.device)).reshape(-1)


def select_rows(module: torch.nn.Module, rows: torch.Tensor) -> None:
    """Keep these outputs of a linear layer, in place."""
    select_parameter(module, "weight", 1 if is_transposed(module) else 0, rows)
    if module.bias is not None:
        select_parameter(module, "bias", 0, rows)
    setattr(module, "nf" if is_transposed(module) else "out_features", len(rows))


def select_columns(module: torch.nn.Module, columns: torch.Tensor) -> None:
    """Keep these inputs of a linear layer, in place."""
    select_parameter(module, "weight", 0 if is_transposed(module) else 1, columns)
    setattr(module, "nx" if is_transposed(module) else "in_features", len(columns))


def select_parameter(module: torch.nn.Module, name: str, dimension: int, index: torch.Tensor) -> None:
    """Keep `index` along one dimension of a parameter, in place."""
    import torch

    old = getattr(module, name)
    new = old.detach().index_select(dimension, index).clone()
    setattr(module, name, torch.nn.Parameter(new, requires_grad=old.requires_grad))
