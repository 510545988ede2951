"""Load checkpoints, pruned ones included, through transformers' own loader."""

from __future__ import annotations

from typing import Any

from optkit.pruning import CONFIG_KEY
from optkit.pruning.surgery import reshape


def from_pretrained(auto: Any, path: str, **options: Any) -> Any:
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


def pruned_class(plain: Any) -> Any:
    """A subclass that gives itself the shape in its config when it is built."""

    def build(self: Any, config: Any, *arguments: Any, **options: Any) -> None:
        plain.__init__(self, config, *arguments, **options)
        reshape(self, getattr(config, CONFIG_KEY))

    return type(plain.__name__, (plain,), {"__init__": build, "__module__": plain.__module__})
