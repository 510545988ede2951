"""From token vectors to one vector per text, as a sentence-transformers folder says.

`modules.json` lists the modules: a Transformer, then Pooling, then possibly Normalize. A folder
without it is a plain encoder: mean pooling, no normalisation, as sentence-transformers itself decides.
The pooling is part of the torch module, so every graph made from it gives one vector per text: far
fewer bytes leave the model, and a server that knows nothing of optkit needs no code for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optkit.errors import CheckpointError
from optkit.files import json_list, read_json

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
#: The name of the vector among a model's outputs, as sentence-transformers calls it.
OUTPUT = "sentence_embedding"
#: Keys of 1_Pooling/config.json before sentence-transformers 5.
_LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Pooling:
    """`modes` are concatenated, `normalize` divides by the length (L2); `max_length` in tokens (None: no
    limit of its own), `lowercase` and `prompt` as sentence-transformers prepares texts. Of each vector
    the first `width` numbers are given (truncate_dim; None: all)."""

    modes: tuple[str, ...] = ("mean",)
    normalize: bool = False
    max_length: int | None = None
    lowercase: bool = False
    prompt: str = ""
    width: int | None = None


def read_pooling(folder: Path) -> Pooling:
    """The pooling of the checkpoint or artifact in `folder`.

    Raises CheckpointError for a module that is none of Transformer, Pooling and Normalize.
    """
    listed = folder / "modules.json"
    if not listed.exists():
        return Pooling()
    modes: tuple[str, ...] | None = None
    normalize = False
    for place, module in enumerate(json_list(listed, CheckpointError)):
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling" and modes is None:
            modes = _modes(folder / str(module.get("path", "")) / "config.json")
        elif kind == "Normalize" and modes is not None:
            normalize = True
        elif kind != "Transformer" or place:
            raise CheckpointError(
                f"Expected the modules Transformer, Pooling and Normalize in {str(listed)!r}, received "
                f"{kind!r} at place {place}.",
                hint="optkit does not know this module; export the encoder without it.",
            )
    if modes is None:
        raise CheckpointError(f"Expected a Pooling module in {str(listed)!r}; there is none.")
    limits = _optional(folder / "sentence_bert_config.json")
    prompts = _optional(folder / "config_sentence_transformers.json")
    default = prompts.get("default_prompt_name")
    return Pooling(
        modes,
        normalize,
        limits.get("max_seq_length"),
        bool(limits.get("do_lower_case", False)),
        (prompts.get("prompts") or {}).get(default, "") if default else "",
        prompts.get("truncate_dim"),
    )


def pooled(encoder: Any, pooling: Pooling) -> Any:
    """`encoder` (an AutoModel) as a torch module whose one output is `OUTPUT`, (batch, width).

    Texts are padded on the right, as optkit's own encoding pads them. Its attributes `config`,
    `inputs` and `set_attn_implementation` are the encoder's.
    """
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer, self.pooling, self.config = encoder, pooling, encoder.config

        def set_attn_implementation(self, name: str) -> None:
            self.transformer.set_attn_implementation(name)

        def forward(self, attention_mask: torch.Tensor, **inputs: Any) -> dict[str, Any]:
            inputs.pop("return_dict", None)
            found = self.transformer(attention_mask=attention_mask, **inputs)
            tokens = found[0]
            vectors = [_POOL[mode](tokens, attention_mask) for mode in pooling.modes]
            vector = torch.cat(vectors, dim=-1) if len(vectors) > 1 else vectors[0]
            if pooling.normalize:
                vector = torch.nn.functional.normalize(vector, p=2, dim=1)
            vector = vector[:, : pooling.width]  # as the library does: behind the normalisation
            if inputs.get("output_hidden_states"):
                return {OUTPUT: vector, "hidden_states": found.hidden_states}
            return {OUTPUT: vector}

    return Pooled()


def _weighted(tokens: Any, weights: Any) -> Any:
    """The mean of `tokens` (batch, tokens, width) by `weights` (batch, tokens)."""
    weights = weights.to(tokens.dtype).unsqueeze(-1)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


def _mean(tokens: Any, mask: Any) -> Any:
    return _weighted(tokens, mask)


def _root(tokens: Any, mask: Any) -> Any:
    """The sum over the square root of the number of tokens."""
    return _weighted(tokens, mask) * mask.sum(dim=1, keepdim=True).to(tokens.dtype).sqrt()


def _by_place(tokens: Any, mask: Any) -> Any:
    """A mean in which token i weighs i: later tokens of a decoder have seen more."""
    return _weighted(tokens, mask * mask.cumsum(dim=1))


def _max(tokens: Any, mask: Any) -> Any:
    return tokens.masked_fill(mask.unsqueeze(-1) == 0, -1e9).amax(dim=1)


def _first(tokens: Any, mask: Any) -> Any:
    return tokens[:, 0]


def _last(tokens: Any, mask: Any) -> Any:
    last = (mask.sum(dim=1) - 1).clamp(min=0).reshape(-1, 1, 1).expand(-1, 1, tokens.shape[-1])
    return tokens.gather(1, last).squeeze(1)


_POOL = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _root,
    "weightedmean": _by_place,
    "lasttoken": _last,
}


def _modes(file: Path) -> tuple[str, ...]:
    config = read_json(file, CheckpointError) if file.exists() else {}
    if not config:
        raise CheckpointError(f"Expected the pooling's own settings in {str(file)!r}; there are none.")
    if config.get("include_prompt") is False:
        raise CheckpointError(
            f"{str(file)!r} leaves the prompt out of the pooling (include_prompt), which optkit does not do."
        )
    stated = config.get("pooling_mode")
    if stated is None:
        stated = [mode for key, mode in _LEGACY.items() if config.get(key)] or ["mean"]
    modes = (stated,) if isinstance(stated, str) else tuple(stated)
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise CheckpointError(
            f"Expected pooling modes among {', '.join(MODES)} in {str(file)!r}, received {stated!r}."
        )
    return modes


def _optional(file: Path) -> dict[str, Any]:
    return read_json(file, CheckpointError) if file.exists() else {}
