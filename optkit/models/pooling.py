"""From token vectors to one vector per text in torch, as `sentence_folder.Pooling` says.

The pooling is part of the torch module, so every graph made from it gives one vector per text: far
fewer bytes leave the model, and a server that knows nothing of optkit needs no code for it.
"""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.errors import CheckpointError
from optkit.models.sentence_folder import Layer, Pooling, read_pooling

if TYPE_CHECKING:
    import torch


__all__ = ["OUTPUT", "TOKENS", "Pooling", "encoder_of", "is_pooled", "pooled", "read_pooling", "save_layers"]
#: The name of the vector among a model's outputs, as sentence-transformers calls it.
OUTPUT = "sentence_embedding"
#: That of the vectors of a model which gives one for each token.
TOKENS = "token_embeddings"


def pooled(encoder: torch.nn.Module, pooling: Pooling, folder: Path) -> torch.nn.Module:
    """`encoder` (an AutoModel) as a torch module whose one output is `OUTPUT`, (batch, width), or `TOKENS`,
    (batch, tokens, width), where nothing is pooled.

    The weights of modules behind the pooling are read from `folder`. Its attributes `config`, `inputs` and
    `set_attn_implementation` are the encoder's. Raises CheckpointError where weights do not fit.
    """
    import torch

    class Pooled(torch.nn.Module):
        is_pooled = True

        def __init__(self) -> None:
            super().__init__()
            self.transformer, self.pooling, self.config = encoder, pooling, encoder.config
            self.takes_mask = "attention_mask" in signature(encoder.forward).parameters
            width = encoder.config.hidden_size * len(pooling.modes)
            self.layers = torch.nn.ModuleList()
            for layer in pooling.layers:
                self.layers.append(_module(layer, width, folder))
                width = layer.width or width

        def set_attn_implementation(self, name: str) -> None:
            self.transformer.set_attn_implementation(name)

        def forward(self, attention_mask: torch.Tensor, **inputs: Any) -> dict[str, Any]:
            inputs.pop("return_dict", None)
            if self.takes_mask:  # FNet does not
                inputs["attention_mask"] = attention_mask
            outputs = self.transformer(**inputs)
            tokens = outputs[0]
            if pooling.tokens:
                vector = tokens
            elif pooling.splade:
                vector = _splade(tokens, attention_mask, pooling)
            else:
                vectors = [_POOL[mode](tokens, attention_mask) for mode in pooling.modes]
                vector = torch.cat(vectors, dim=-1) if len(vectors) > 1 else vectors[0]
            for layer in self.layers:
                vector = layer(vector)
            vector = vector[:, : pooling.truncate_dim] if pooling.truncate_dim else vector
            name = TOKENS if pooling.tokens else OUTPUT
            if inputs.get("output_hidden_states"):
                return {name: vector, "hidden_states": outputs.hidden_states}
            return {name: vector}

    return Pooled()


def encoder_of(model: torch.nn.Module) -> torch.nn.Module:
    """The transformers model of `model`: what `pooled` was given, or `model` itself, from elsewhere."""
    return model.transformer if is_pooled(model) else model


def is_pooled(model: torch.nn.Module) -> bool:
    """Whether `model` was returned by `pooled`."""
    return getattr(model, "is_pooled", False)


def save_layers(model: torch.nn.Module, out: Path) -> None:
    """Write the weights of the modules behind the pooling of `model` (see `pooled`) into `out`."""
    from safetensors.torch import save_model

    for layer, module in zip(model.pooling.layers, model.layers):
        if layer.folder:
            (out / layer.folder).mkdir(parents=True, exist_ok=True)
            save_model(module, str(out / layer.folder / "model.safetensors"))


def _module(layer: Layer, width: int, folder: Path) -> torch.nn.Module:
    """`layer` in torch, with its weights, for vectors of `width` numbers."""
    import torch
    from safetensors.torch import load_file

    class Normalize(torch.nn.Module):
        def forward(self, vector: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(vector, p=2, dim=-1)

    class LayerNorm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.LayerNorm(width)

        def forward(self, vector: torch.Tensor) -> torch.Tensor:
            return self.norm(vector)

    class Dense(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(width, layer.width, bias=layer.bias)
            self.activation = getattr(torch.nn, layer.activation)()
            if layer.residual and width != layer.width:
                self.residual = torch.nn.Linear(width, layer.width, bias=False)

        def forward(self, vector: torch.Tensor) -> torch.Tensor:
            answer = self.activation(self.linear(vector))
            if not layer.residual:
                return answer
            return answer + (self.residual(vector) if width != layer.width else vector)

    if layer.kind == "Normalize":
        return Normalize()
    file = folder / layer.folder / "model.safetensors"
    if layer.inputs != width:
        raise CheckpointError(
            f"Expected {layer.kind} in {str(file.parent)!r} to take {width} numbers, received {layer.inputs}."
        )
    module = Dense() if layer.kind == "Dense" else LayerNorm()
    try:
        module.load_state_dict({k: v.float() for k, v in load_file(str(file)).items()})
    except Exception as reason:  # safetensors and torch raise their own
        said = " ".join(str(reason).split())[:300]
        raise CheckpointError(f"The weights in {str(file)!r} do not fit its config.json: {said}") from reason
    return module


def _weighted(tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The mean of `tokens` (batch, tokens, width) by `weights` (batch, tokens)."""
    weights = weights.to(tokens.dtype).unsqueeze(-1)
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


def _mean(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return _weighted(tokens, mask)


def _root(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The sum over the square root of the number of tokens."""
    return _weighted(tokens, mask) * mask.sum(dim=1, keepdim=True).to(tokens.dtype).sqrt()


def _by_place(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A mean in which token i weighs i: later tokens of a decoder have seen more."""
    return _weighted(tokens, mask * mask.cumsum(dim=1))


def _max(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return tokens.masked_fill(mask.unsqueeze(-1) == 0, -1e9).amax(dim=1)


def _first(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return tokens[:, 0]


def _last(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The vector of the last token that is no padding, on whichever side the padding is."""
    import torch

    places = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * places).amax(dim=1).reshape(-1, 1, 1).expand(-1, 1, tokens.shape[-1])
    return tokens.gather(1, last).squeeze(1)


def _splade(logits: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """A weight for each token of the vocabulary; padding weighs nothing."""
    weights = (logits * mask.unsqueeze(-1).to(logits.dtype)).relu().log1p()
    weights = weights.log1p() if pooling.splade == "log1p_relu" else weights
    return weights.amax(dim=1) if pooling.modes == ("max",) else weights.sum(dim=1)


_POOL = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _root,
    "weightedmean": _by_place,
    "lasttoken": _last,
}
