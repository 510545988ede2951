"""Load checkpoints, pruned ones included, through transformers' own loader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optkit.errors import CheckpointError
from optkit.models.uneven.hidden import cut_width
from optkit.models.uneven.key import CONFIG_KEY
from optkit.models.uneven.layout import sublayers
from optkit.models.uneven.surgery import cut

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.models.auto.auto_factory import _BaseAutoModelClass


def from_pretrained(auto: type[_BaseAutoModelClass], path: str, **options: object) -> PreTrainedModel:
    """`auto.from_pretrained(path, **options)`, where config.json may say that the model is pruned.

    `auto` is an Auto class of transformers. A pruned model is built from its config, gets its shape,
    and then its weights: dtype, sharding and renamed weights go the usual way.
    """
    import transformers
    from transformers.models.auto.auto_factory import _get_model_class

    trusted = {k: v for k, v in options.items() if k in ("local_files_only", "trust_remote_code")}
    config = transformers.AutoConfig.from_pretrained(path, **trusted)
    if getattr(config, CONFIG_KEY, None) is None:
        return auto.from_pretrained(path, **options)
    plain = _get_model_class(config, auto._model_mapping)
    options.pop("trust_remote_code", None)
    loaded = pruned_class(plain).from_pretrained(path, **options)
    model = loaded[0] if isinstance(loaded, tuple) else loaded
    model.__class__ = plain
    return loaded


def pruned_class(plain: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """A subclass that gives itself the shape in its config when it is built."""

    def build(self: PreTrainedModel, config: PretrainedConfig, *arguments: object, **options: object) -> None:
        plain.__init__(self, config, *arguments, **options)
        reshape(self, getattr(config, CONFIG_KEY))

    return type(plain.__name__, (plain,), {"__init__": build, "__module__": plain.__module__})


def reshape(model: torch.nn.Module, shape: dict[str, Any]) -> None:
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
        width, readers = shape["hidden"], shape.get("readers")
        if not isinstance(width, int) or not 0 < width <= model.config.hidden_size or not readers:
            raise CheckpointError(
                f"Expected {CONFIG_KEY} in config.json to give a hidden dimension of 1 to "
                f"{model.config.hidden_size} and its readers, received {width!r} and {readers!r}."
            )
        setattr(model.config, CONFIG_KEY, {k: shape[k] for k in ("heads", "ffn")})
        cut_width(model, range(width), readers)
