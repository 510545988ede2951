"""`Layout`: where attention heads and FFN neurons lie in each architecture, and `Sublayer`: one such place.

A *unit* is what is kept or cut: an attention head (with grouped-query attention a key-value head with
all of its query heads), or an FFN neuron. A unit owns rows of the sublayer's input projections and
columns of its output projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from optkit.errors import CheckpointError
from optkit.models.pooling import encoder_of

if TYPE_CHECKING:
    import torch


Kind = Literal["heads", "ffn"]


@dataclass(frozen=True)
class Layout:
    """Module paths: `layers` from the base model, all others from one layer.

    `attention` splits the heads, whose size is its attribute `head_size`; `counts` are its attributes
    that hold the number of heads, `sizes` those that hold heads × head size. `stacked` projections lie
    one after another in each of `head_inputs`, `ffn_stacked` in each of `ffn_inputs`. With
    `keep_attention` each layer keeps a head, for a decoder takes the length of its cache from it.
    `post_norm`: the norm follows the residual sum. `scales`: modules whose `lambda1` multiplies what heads
    and FFN add to it.
    """

    layers: str
    attention: str
    head_size: str
    head_inputs: tuple[str, ...]
    head_output: str
    ffn: str
    ffn_inputs: tuple[str, ...]
    ffn_output: str
    counts: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    stacked: int = 1
    ffn_stacked: int = 1
    post_norm: bool = False
    keep_attention: bool = False
    scales: tuple[str, ...] = ()


_BERT = Layout(
    layers="encoder.layer",
    attention="attention.self",
    head_size="attention_head_size",
    head_inputs=("attention.self.query", "attention.self.key", "attention.self.value"),
    head_output="attention.output.dense",
    ffn="intermediate",
    ffn_inputs=("intermediate.dense",),
    ffn_output="output.dense",
    counts=("num_attention_heads",),
    sizes=("all_head_size",),
    post_norm=True,
)
_VIT = Layout(
    layers="layers",
    attention="attention",
    head_size="head_dim",
    head_inputs=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    head_output="attention.o_proj",
    ffn="mlp",
    ffn_inputs=("mlp.fc1",),
    ffn_output="mlp.fc2",
    counts=("num_attention_heads",),
)
_DINO = replace(_VIT, layers="encoder.layer", scales=("layer_scale1", "layer_scale2"))
_LLAMA = Layout(
    layers="layers",
    attention="self_attn",
    head_size="head_dim",
    head_inputs=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    head_output="self_attn.o_proj",
    ffn="mlp",
    ffn_inputs=("mlp.gate_proj", "mlp.up_proj"),
    ffn_output="mlp.down_proj",
    keep_attention=True,
)

#: model_type → layout: the list of what can be pruned.
LAYOUTS = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": Layout(
        layers="transformer.layer",
        attention="attention",
        head_size="attention_head_size",
        head_inputs=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        head_output="attention.out_lin",
        ffn="ffn",
        ffn_inputs=("ffn.lin1",),
        ffn_output="ffn.lin2",
        counts=("n_heads",),
        post_norm=True,
    ),
    "deberta-v2": replace(
        _BERT,
        head_inputs=tuple(
            f"attention.self.{name}"
            for name in ("query_proj", "key_proj", "value_proj", "pos_key_proj", "pos_query_proj")
        ),
    ),
    **dict.fromkeys(("vit", "deit", "ijepa", "vit_msn"), _VIT),
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), _DINO),
    "gpt2": Layout(
        layers="h",
        attention="attn",
        head_size="head_dim",
        head_inputs=("attn.c_attn",),
        head_output="attn.c_proj",
        ffn="mlp",
        ffn_inputs=("mlp.c_fc",),
        ffn_output="mlp.c_proj",
        counts=("num_heads",),
        sizes=("split_size",),
        stacked=3,
        keep_attention=True,
    ),
    "modernbert": Layout(
        layers="layers",
        attention="attn",
        head_size="head_dim",
        head_inputs=("attn.Wqkv",),
        head_output="attn.Wo",
        ffn="mlp",
        ffn_inputs=("mlp.Wi",),
        ffn_output="mlp.Wo",
        stacked=3,
        ffn_stacked=2,
    ),
    "eurobert": replace(_LLAMA, keep_attention=False),
    **dict.fromkeys(
        ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3", "smollm3"), _LLAMA
    ),
}


@dataclass(frozen=True)
class Sublayer:
    """The heads, or the FFN neurons, of layer number `index`."""

    index: int
    kind: Kind
    layer: torch.nn.Module
    layout: Layout

    @property
    def name(self) -> str:
        return f"layer {self.index} {self.kind}"

    @property
    def core(self) -> str:
        """The path of the module that is replaced when no unit is left."""
        return self.layout.attention if self.kind == "heads" else self.layout.ffn

    @property
    def output_path(self) -> str:
        return self.layout.head_output if self.kind == "heads" else self.layout.ffn_output

    @property
    def output(self) -> torch.nn.Module:
        """The output projection; each unit owns `width` of its inputs."""
        return self.layer.get_submodule(self.output_path)

    @property
    def inputs(self) -> list[torch.nn.Module]:
        """The projections whose rows the units own (those that this model has)."""
        paths = self.layout.head_inputs if self.kind == "heads" else self.layout.ffn_inputs
        return [module for path in paths if (module := _find(self.layer, path)) is not None]

    @property
    def stacked(self) -> int:
        return self.layout.stacked if self.kind == "heads" else self.layout.ffn_stacked

    @property
    def units(self) -> int:
        """How many units are left; 0 where the sublayer is gone."""
        if getattr(self.layer.get_submodule(self.core), "is_absent", False):
            return 0
        rows = out_features(self.inputs[-1]) // self.stacked
        return rows // self._head_size if self.kind == "heads" else rows

    @property
    def width(self) -> int:
        """Inputs of the output projection per unit: the head size (times the group), or 1."""
        units = self.units
        return in_features(self.output) // units if units else 0

    @property
    def scale(self) -> torch.Tensor | float:
        """What multiplies the output, number by number, before it is added to the residual."""
        if not self.layout.scales:
            return 1.0
        path = self.layout.scales[self.kind == "ffn"]
        scale: torch.Tensor = self.layer.get_submodule(path).lambda1.detach()
        return scale

    @property
    def minimum(self) -> int:
        """The fewest units that may be left."""
        return int(self.kind == "heads" and self.layout.keep_attention)

    @property
    def _head_size(self) -> int:
        return getattr(self.layer.get_submodule(self.core), self.layout.head_size)


def base_of(model: torch.nn.Module) -> torch.nn.Module:
    """The transformers model without its head; of an encoder with a pooling after it, that encoder."""
    network = encoder_of(model)
    return getattr(network, network.base_model_prefix, network)


def sublayers(model: torch.nn.Module) -> list[Sublayer]:
    """Heads, then FFN, of each layer from the bottom. CheckpointError for an unknown architecture."""
    kind = model.config.model_type
    check_kind(vars(model.config) | {"model_type": kind})
    if getattr(model.config, "add_cross_attention", False):
        raise CheckpointError(f"Cannot prune {type(model).__name__} with cross-attention.")
    layout = LAYOUTS[kind]
    layers = base_of(model).get_submodule(layout.layers)
    kinds: tuple[Kind, Kind] = ("heads", "ffn")
    return [Sublayer(i, kind, layer, layout) for i, layer in enumerate(layers) for kind in kinds]


def check_kind(config: Mapping[str, Any]) -> None:
    """Raise CheckpointError where the layout of a model with this config.json is not known."""
    kind, gated = config.get("model_type"), config.get("use_swiglu_ffn")
    if kind not in LAYOUTS or gated:
        raise CheckpointError(
            f"Cannot prune the architecture {kind!r}{' with a gated FFN' if gated else ''}: where its heads "
            "and FFN neurons lie is not known.",
            hint=f"What can be pruned: {', '.join(sorted(LAYOUTS))}. Others teach a smaller checkpoint of "
            "their family: optkit distill SMALLER --teacher THIS.",
        )


def is_transposed(module: torch.nn.Module) -> bool:
    """Whether the weight is (in, out), as in transformers' Conv1D, and not (out, in)."""
    return type(module).__name__ == "Conv1D"


def in_features(module: torch.nn.Module) -> int:
    return module.weight.shape[0 if is_transposed(module) else 1]


def out_features(module: torch.nn.Module) -> int:
    return module.weight.shape[1 if is_transposed(module) else 0]


def _find(layer: torch.nn.Module, path: str) -> torch.nn.Module | None:
    try:
        return layer.get_submodule(path)
    except AttributeError:
        return None
