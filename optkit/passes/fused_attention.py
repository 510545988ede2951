"""Attention as one ONNX node, emitted at export instead of matched afterwards.

transformers ≥ 5 looks attention up by name (`AttentionInterface`), so a function registered there
can emit `com.microsoft::MultiHeadAttention` where ONNX Runtime's optimizer, which matches
patterns, fuses no node of a transformers 5 graph at all. The mask function registered beside it
keeps the padding mask two-dimensional, (batch, keys): it is computed once, not per layer.

Source: ONNX Runtime contrib operators, MultiHeadAttention (key_padding_mask, 0 means padding).
"""

from __future__ import annotations

from typing import Any

NAME, CAUSAL = "optkit_fused", "optkit_fused_causal"
OPERATOR = "MultiHeadAttention"


def register() -> None:
    """Make `model.set_attn_implementation(NAME)` possible, and CAUSAL. Calling it twice is fine."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)
    AttentionInterface.register(CAUSAL, _causal_attention)
    AttentionMaskInterface.register(CAUSAL, _causal_mask)


def _attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """query, key, value: (batch, heads, tokens, head size) → (batch, tokens, heads, head size)."""
    import torch

    batch, heads, tokens, size = query.shape

    def flat(x: Any) -> Any:
        return x.transpose(1, 2).reshape(batch, -1, heads * size)

    out = torch.onnx.ops.symbolic(
        f"com.microsoft::{OPERATOR}",
        (flat(query), flat(key), flat(value), None, attention_mask),
        {"num_heads": heads, "scale": float(size**-0.5 if scaling is None else scaling)},
        dtype=query.dtype,
        shape=(batch, tokens, heads * size),
        version=1,
    )
    return out.reshape(batch, tokens, heads, size), None


def _causal_attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """The same for decoders: `key` and `value` hold the cache too, and may have fewer heads (grouped query).

    The operator takes them as they lie in the cache, (batch, heads, all tokens, head size).
    """
    import torch

    batch, heads, tokens, size = query.shape
    groups = heads // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    out = torch.onnx.ops.symbolic(
        f"com.microsoft::{OPERATOR}",
        (query.transpose(1, 2).reshape(batch, tokens, heads * size), key, value, None, None, attention_mask),
        {"num_heads": heads, "scale": float(size**-0.5 if scaling is None else scaling)},
        dtype=query.dtype,
        shape=(batch, tokens, heads * size),
        version=1,
    )
    return out.reshape(batch, tokens, heads, size), None


def _causal_mask(**arguments: Any) -> Any:
    """(batch, 1, tokens, all tokens), added to the scores: 0 for what a token may see."""
    from transformers.masking_utils import eager_mask

    return eager_mask(**{**arguments, "allow_is_causal_skip": False})


def _mask(attention_mask: Any = None, **_: Any) -> Any:
    """(batch, keys), 1 where a key may be attended to; None where nothing is masked."""
    import torch

    return None if attention_mask is None else attention_mask.to(torch.int32)
