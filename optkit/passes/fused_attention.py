"""Attention as one ONNX node, emitted at export instead of matched afterwards.

transformers ≥ 5 looks attention up by name (`AttentionInterface`), so a function registered there
can emit `com.microsoft::MultiHeadAttention` where ONNX Runtime's optimizer, which matches
patterns, fuses no node of a transformers 5 graph at all. The mask function registered beside it
keeps a mask that is nothing but padding two-dimensional, (batch, keys). Any other mask (windows,
causality) becomes what the operator adds to the scores, (batch, 1, queries, keys), as do biases by
position (T5). transformers makes each kind of mask once, so that all layers share it.

What the operator cannot say (soft caps, sinks) raises `CannotFuse`.

Source: ONNX Runtime contrib operators, MultiHeadAttention (key_padding_mask, 0 means padding;
attention_bias).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


NAME, CACHED = "optkit_fused", "optkit_fused_cached"
OPERATOR = "MultiHeadAttention"
#: Added to the score of a key that a query may not see: its share is exp(-10000) = 0 in every precision.
MASKED = -1e4
#: What models that add a bias by position to the scores, (batch or 1, heads, queries, keys), call it.
POSITION_BIAS = "position_bias"
#: What the attention of a model is told beside its tensors and says nothing of the scores, or is in the mask
#: (a window). Anything else must be None or False.
SAYS_NOTHING_MORE = frozenset(
    {"cache_position", "deterministic", "dropout", "is_causal", "layer_idx", "output_attentions"}
    | {"position_embeddings", "position_ids", "return_dict", "sliding_window", "use_cache"}
)


class CannotFuse(Exception):
    """The model's attention is more than the operator can say; `str` says what."""


def register() -> None:
    """Make `model.set_attn_implementation(NAME)` possible, and CACHED. Calling it twice is fine."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionInterface.register(CACHED, _cached_attention)
    for name in (NAME, CACHED):
        AttentionMaskInterface.register(name, _mask)


def switch(model: torch.nn.Module, name: str, answer: Callable[[], object]) -> str:
    """Set the attention `name` and let the model `answer` once; why it cannot be fused, "" where it is.

    The answer means nothing: only what the operator cannot say is looked for. A model that cannot be fused is
    left as it was.
    """
    register()
    before = implementations(model)
    reason = "its attention is not taken from transformers' AttentionInterface"
    try:
        model.set_attn_implementation(name)
        if model.config._attn_implementation == name:
            _called.clear()
            answer()
            if _called:
                return ""
    except (ValueError, NotImplementedError):
        pass
    except CannotFuse as error:
        reason = str(error)
    except Exception as error:  # a model that builds on its own kind of mask
        reason = f"{type(model).__name__} cannot run with it ({type(error).__name__})"
    restore(before)
    return reason


def implementations(model: torch.nn.Module) -> list[tuple[Any, str | None]]:
    """The configuration of `model` and of each model in it, with the attention that it names."""
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    named = [c for c in configs.values() if hasattr(c, "_attn_implementation")]
    return [(config, config._attn_implementation) for config in named]


def restore(saved: list[tuple[Any, str | None]]) -> None:
    """Give each configuration its own again: a backbone may not have that of the model around it."""
    for config, name in saved:
        config._attn_implementation_internal = name


#: The modules whose attention was asked for since `switch` began: none in a model that goes its own way.
_called: set[int] = set()


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **more: object,
) -> tuple[torch.Tensor, None]:
    """query, key, value: (batch, heads, tokens, head size) → (batch, tokens, heads, head size).

    Keys and values may have fewer heads (grouped query): each then stands for several.
    """
    key, value = _every_head(query, key, value)

    def flat(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2).reshape(x.shape[0], -1, x.shape[1] * x.shape[3])

    return _emit(module, query, (flat(key), flat(value)), value.shape[-1], attention_mask, scaling, more)


def _cached_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **more: object,
) -> tuple[torch.Tensor, None]:
    """The same where `key` and `value` hold the cache too, as it lies: (batch, heads, all tokens, size)."""
    key, value = _every_head(query, key, value)
    return _emit(module, query, (key, value), value.shape[-1], attention_mask, scaling, more)


def _every_head(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    groups = query.shape[1] // key.shape[1]
    if groups == 1:
        return key, value
    if query.shape[1] % key.shape[1]:
        raise CannotFuse(f"{query.shape[1]} heads share {key.shape[1]} of keys")

    def repeated(x: torch.Tensor) -> torch.Tensor:
        return x[:, :, None].expand(-1, -1, groups, -1, -1).reshape(x.shape[0], -1, *x.shape[2:])

    return repeated(key), repeated(value)


def _emit(
    module: torch.nn.Module,
    query: torch.Tensor,
    others: tuple[torch.Tensor, torch.Tensor],
    width: int,
    mask: torch.Tensor,
    scaling: float | None,
    more: dict[str, Any],
) -> tuple[torch.Tensor, None]:
    """The node; `others` are key and value in either form, `width` is the size of a value's head."""
    import torch

    batch, heads, tokens, size = query.shape
    padding, bias = _as_operator(module, query, mask, more)
    out = torch.onnx.ops.symbolic(
        f"com.microsoft::{OPERATOR}",
        (query.transpose(1, 2).reshape(batch, tokens, heads * size), *others, None, padding, bias),
        {"num_heads": heads, "scale": float(size**-0.5 if scaling is None else scaling)},
        dtype=query.dtype,
        shape=(batch, tokens, heads * width),
        version=1,
    )
    return out.reshape(batch, tokens, heads, width), None


def _as_operator(
    module: torch.nn.Module, query: torch.Tensor, mask: torch.Tensor, more: dict[str, Any]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """`mask` and a bias by position as key_padding_mask and attention_bias. Raises CannotFuse."""
    import torch

    _called.add(id(module))
    bias = more.pop(POSITION_BIAS, None)
    if more.get("dropout"):
        raise CannotFuse(f"{type(module).__name__} drops out while it answers")
    for name, value in more.items():
        if name not in SAYS_NOTHING_MORE and value is not None and value is not False:
            raise CannotFuse(f"{type(module).__name__} is told {name}")
    if bias is not None and bias.dim() != 4:
        raise CannotFuse(f"the bias by position of {type(module).__name__} has {bias.dim()} dimensions")
    if mask is None:
        causal = more.get("is_causal")
        if getattr(module, "is_causal", True) if causal is None else causal:
            raise CannotFuse(f"{type(module).__name__} is causal and has no mask")
        if more.get("sliding_window") is not None:
            raise CannotFuse(f"{type(module).__name__} has a window and no mask")
        return None, _every_query(query, bias)
    if mask.dim() == 2:
        return mask, _every_query(query, bias)
    if mask.dim() != 4:
        raise CannotFuse(f"the mask of {type(module).__name__} has {mask.dim()} dimensions")
    if mask.dtype == torch.bool:
        mask = torch.where(mask, 0.0, MASKED)
    return None, _every_query(query, mask if bias is None else mask + bias)


def _every_query(query: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`bias` with a row for each query, as the operator asks for."""
    return bias if bias is None or bias.shape[2] != 1 else bias.expand(-1, -1, query.shape[2], -1)


def _mask(
    attention_mask: torch.Tensor | None = None,
    mask_function: Callable[..., torch.Tensor] | None = None,
    use_vmap: bool = False,
    local_size: int | None = None,
    dtype: torch.dtype | None = None,
    **arguments: object,
) -> torch.Tensor | None:
    """(batch, keys), 1 where a key may be attended to, if padding is all that is masked (None: nothing is);
    else (batch, 1, queries, keys), added to the scores: 0 for what a token may see."""
    import torch
    from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

    if mask_function is bidirectional_mask_function and local_size is None:
        return None if attention_mask is None else attention_mask.to(torch.int32)
    if use_vmap:
        raise CannotFuse("its mask is a function of its own")
    skips = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    seen = sdpa_mask(attention_mask=attention_mask, mask_function=mask_function, **{**arguments, **skips})
    return torch.where(seen, torch.zeros((), dtype=dtype), torch.full((), MASKED, dtype=dtype))
