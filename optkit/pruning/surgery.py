"""Cut units out of a model: the weights get smaller, the function stays that of the masked model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optkit.errors import CheckpointError
from optkit.pruning import CONFIG_KEY
from optkit.pruning.absent import absent_class, bias_only_class
from optkit.pruning.layout import Sublayer, is_transposed, sublayers


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


def shape_of(model: Any) -> dict[str, list[int]]:
    """Units left per layer, {"heads": [...], "ffn": [...]}: what config.json stores."""
    found: dict[str, list[int]] = {"heads": [], "ffn": []}
    for sublayer in sublayers(model):
        found[sublayer.kind].append(sublayer.units)
    return found


def record(model: Any) -> None:
    """Write the model's shape into its config, so that it can be loaded again."""
    before = getattr(model.config, CONFIG_KEY, None) or {}
    width = {key: before[key] for key in ("hidden", "readers") if key in before}
    setattr(model.config, CONFIG_KEY, {**shape_of(model), **width})


def reshape(model: Any, shape: Any) -> None:
    """Give a model that was built from its config the `shape` of a pruned one; weights are to be loaded.

    Raises CheckpointError where `shape` does not fit the model.
    """
    places = sublayers(model)
    depth = len(places) // 2
    lists = [shape.get(kind) if isinstance(shape, dict) else None for kind in ("heads", "ffn")]
    if not all(isinstance(x, list) and len(x) == depth for x in lists):
        raise CheckpointError(
            f"Expected {CONFIG_KEY} in config.json to be {{'heads': [...], 'ffn': [...]}} with one number "
            f"for each of {depth} layers, received {str(shape)[:200]}."
        )
    for sublayer in places:
        count = shape[sublayer.kind][sublayer.index]
        if not isinstance(count, int) or not sublayer.minimum <= count <= sublayer.units:
            raise CheckpointError(
                f"Expected {CONFIG_KEY} in config.json to give {sublayer.name} {sublayer.minimum} to "
                f"{sublayer.units} units, received {count!r}."
            )
        cut(sublayer, range(count))
    if "hidden" in shape:
        from optkit.pruning.width import cut_width

        width, readers = shape["hidden"], shape.get("readers")
        if not isinstance(width, int) or not 0 < width <= model.config.hidden_size or not readers:
            raise CheckpointError(
                f"Expected {CONFIG_KEY} in config.json to give a hidden dimension of 1 to "
                f"{model.config.hidden_size} and its readers, received {width!r} and {readers!r}."
            )
        setattr(model.config, CONFIG_KEY, {k: shape[k] for k in ("heads", "ffn")})
        cut_width(model, range(width), readers)


def _remove(sublayer: Sublayer) -> None:
    output = bias_only_class()(sublayer.output)
    inside = sublayer.output_path.startswith(sublayer.core + ".")
    name = sublayer.output_path.removeprefix(sublayer.core + ".") if inside else None
    gone = absent_class()(name, output if inside else None, pair=sublayer.kind == "heads")
    sublayer.layer.set_submodule(sublayer.core, gone)
    if not inside:
        sublayer.layer.set_submodule(sublayer.output_path, output)


def _out(module: Any) -> int:
    return module.weight.shape[1 if is_transposed(module) else 0]


def _spread(index: Any, width: int) -> Any:
    """Unit numbers → the numbers of all their rows, `width` each."""
    import torch

    return (index[:, None] * width + torch.arange(width, device=index.device)).reshape(-1)


def select_rows(module: Any, rows: Any) -> None:
    """Keep these outputs of a linear layer, in place."""
    select_parameter(module, "weight", 1 if is_transposed(module) else 0, rows)
    if module.bias is not None:
        select_parameter(module, "bias", 0, rows)
    setattr(module, "nf" if is_transposed(module) else "out_features", len(rows))


def select_columns(module: Any, columns: Any) -> None:
    """Keep these inputs of a linear layer, in place."""
    select_parameter(module, "weight", 0 if is_transposed(module) else 1, columns)
    setattr(module, "nx" if is_transposed(module) else "in_features", len(columns))


def select_parameter(module: Any, name: str, dimension: int, index: Any) -> None:
    """Keep `index` along one dimension of a parameter, in place."""
    import torch

    old = getattr(module, name)
    new = old.detach().index_select(dimension, index).clone()
    setattr(module, name, torch.nn.Parameter(new, requires_grad=old.requires_grad))
