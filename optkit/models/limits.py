"""How many tokens a model takes: the one rule, from its config.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Names of the number of positions, in the order they are believed.
_POSITIONS = (
    *("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx"),
    "max_target_positions",
)
#: Families whose position ids begin behind the padding id: the table's first rows are never used.
#: (transformers: `create_position_ids_from_input_ids`.)
_BEHIND_PADDING = (
    *("roberta", "camembert", "mpnet", "longformer", "data2vec-text", "xmod", "ibert", "esm", "luke"),
    *("markuplm", "layoutlmv3", "lilt"),
)
#: Families that read where each word stands on a page beside its tokens, and those that need its image, too.
WITH_BOXES = ("layoutlm", "lilt", "bros")
WITH_IMAGES = ("layoutlmv2", "layoutlmv3", "layoutxlm", "udop")
#: Families that know distances only, whatever number their configuration states.
_DISTANCES = ("t5", "mt5", "umt5", "longt5", "switch_transformers", "xlnet", "bloom")
#: Where a configuration keeps that of its text model.
_NESTED = ("text_config", "encoder", "language_config")


def position_count(config: Mapping[str, Any]) -> int | None:
    """The positions that a model states; None where it states no limit."""
    numbers = (config.get(name) for name in _POSITIONS)
    stated = next((n for n in numbers if isinstance(n, int) and not isinstance(n, bool) and n > 0), None)
    inner = [config[name] for name in _NESTED if isinstance(config.get(name), Mapping)]
    return stated if stated is not None or not inner else position_count(inner[0])


def token_limit(config: Mapping[str, Any]) -> int | None:
    """The most tokens, special ones included, that the model with this config.json takes; None for no limit.

    Rotary and other positions without a table are bounded by what the configuration states: that is what the
    model was trained for.

    >>> token_limit({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1})
    512
    """
    family = str(config.get("model_type", "")).replace("_", "-")
    if family.replace("-", "_") in _DISTANCES:
        return None
    positions = position_count(config)
    if positions is None:
        return None
    return max(1, positions - reserved_positions(config))


def reserved_positions(config: Mapping[str, Any]) -> int:
    """Rows at the start of the table of positions that no token uses."""
    family = str(config.get("model_type", "")).replace("_", "-")
    if not any(name in family for name in _BEHIND_PADDING):
        return 0
    if config.get("position_embedding_type") == "rotary":  # some of ESM
        return 0
    padding = config.get("pad_token_id")
    return (padding if isinstance(padding, int) else 1) + 1
