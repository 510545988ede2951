"""How a sentence-transformers folder makes a vector of token vectors, or a score of logits; without torch.

`SentenceTransformer(folder).encode(texts)` and `CrossEncoder(folder).predict(pairs)` say what is right; what
is not followed is refused by its name. A folder without modules.json is a plain encoder: mean pooling, no
normalisation, and the last token for a decoder, as sentence-transformers itself decides.
Source: sentence-transformers 6.2, `sentence_transformer/modules` and `cross_encoder/model.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optkit.core.sentence_modules import (
    MULTI_VECTOR,
    SPLADE,
    TOKEN_MASK,
    Module,
    is_multi_vector,
    modules,
    optional,
    prompt_of,
    prompts_of,
    refuse_chat_template,
    settings_of,
    text_settings,
)
from optkit.errors import CheckpointError, did_you_mean
from optkit.models.token_vectors import TokenVectors, read_token_vectors

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
#: Between the token vectors of two texts: the sum, or the mean, of the nearest to each of the first's.
MAXSIM, MEAN_MAXSIM = "maxsim", "meanmaxsim"
#: Activation functions of torch.nn without settings or weights of their own.
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU", "ELU", "LeakyReLU", "Mish", "Softplus")
#: Those that may stand between a reranker's logit and its score.
SCORING = ("Identity", "Sigmoid", "Tanh", "ReLU")
#: Keys that sentence-transformers below 6, and below 4, writes into the config.json of a cross-encoder.
CROSS_ENCODER = {"sentence_transformers", "sbert_ce_default_activation_function"}
#: Keys of 1_Pooling/config.json before sentence-transformers 5.
_LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_HINT = "optkit does not know this; export the encoder without it."


@dataclass(frozen=True)
class Layer:
    """A module behind the pooling: `kind` is Dense, LayerNorm or Normalize, `folder` holds its weights.

    `width` is that of its output, None where it keeps its input's; the others are a Dense's own.
    """

    kind: str
    folder: str = ""
    inputs: int | None = None
    width: int | None = None
    bias: bool = True
    activation: str = "Identity"
    residual: bool = False


@dataclass(frozen=True)
class Pooling:
    """How token vectors become one vector per text, and how texts are prepared for it.

    `modes` are concatenated, `layers` follow in order, and of the result the first `truncate_dim` numbers
    stay (None: all), which is not normalised again. `max_length` in tokens (None: no limit of its own),
    `lowercase` and `prompt` prepare texts; `prompts` are all that have names, `include_prompt` whether their
    tokens count. `similarity` is how two vectors are compared. `splade` is what a token's logits go through
    in a sparse encoder (relu or log1p_relu; "": it is none), whose mode is max or sum. With `tokens` there is
    no pooling: `layers` follow each token's own vector.
    """

    modes: tuple[str, ...] = ("mean",)
    layers: tuple[Layer, ...] = ()
    truncate_dim: int | None = None
    max_length: int | None = None
    lowercase: bool = False
    prompt: str = ""
    similarity: str = "cosine"
    prompts: Mapping[str, str] = field(default_factory=dict, hash=False)
    include_prompt: bool = True
    splade: str = ""
    tokens: TokenVectors | None = field(default=None, hash=False)

    @property
    def kind(self) -> str:
        """What a text becomes: a "dense" vector, a "sparse" one, or one for each of its "tokens"."""
        return "sparse" if self.splade else "tokens" if self.tokens else "dense"

    def width(self, hidden: int) -> int:
        """Numbers per vector over an encoder that gives `hidden` per token."""
        width = hidden * len(self.modes)
        for layer in self.layers:
            width = layer.width or width
        return min(width, self.truncate_dim or width)


def read_pooling(folder: Path) -> Pooling:
    """The pooling of the checkpoint or artifact in `folder`.

    Raises CheckpointError for a module or a setting that optkit does not follow.
    """
    listed = modules(folder)
    if not listed:
        refuse_chat_template(folder)
        return Pooling(_default_modes(folder), prompts=prompts_of({}))
    if is_multi_vector(folder):
        return _read_multi_vector(folder, listed)
    if len(listed) == 1:
        raise CheckpointError(
            f"Expected a Pooling module in {str(folder / 'modules.json')!r}; there is none."
        )
    if listed[1].kind == SPLADE:
        return _read_splade(folder, *listed)
    if listed[0].kind != "Transformer":
        raise CheckpointError(
            f"Expected {SPLADE} behind the {listed[0].kind} in {str(folder / 'modules.json')!r}."
        )
    settings = settings_of(folder, "SentenceTransformer")
    modes, include_prompt = _pooling_module(folder / listed[1].path / "config.json")
    # Dropout does nothing outside of training.
    layers = tuple(_layer(one.kind, folder, one.path) for one in listed[2:] if one.kind != "Dropout")
    max_length, lowercase = text_settings(folder, "feature-extraction")
    prompt = prompt_of(settings, folder)
    if prompt and not include_prompt:
        raise CheckpointError(
            f"The pooling in {str(folder)!r} leaves the prompt {prompt!r} out (include_prompt), which optkit "
            "does not do.",
            hint="Give prompts with the texts: set default_prompt_name to null.",
        )
    return Pooling(
        modes,
        layers,
        _truncate_dim(settings, folder),
        max_length,
        lowercase,
        prompt,
        _similarity(settings, folder),
        prompts_of(settings),
        include_prompt,
    )


def _read_multi_vector(folder: Path, listed: list[Module]) -> Pooling:
    """A vector for each token, and no pooling."""
    settings = settings_of(folder, MULTI_VECTOR)
    max_length, lowercase = text_settings(folder, "feature-extraction")
    behind = [one for one in listed[1:] if one.kind != TOKEN_MASK]
    return Pooling(
        ("tokens",),
        tuple(_layer(one.kind, folder, one.path, "token_embeddings") for one in behind),
        max_length=max_length,
        lowercase=lowercase,
        prompt=prompt_of(settings, folder),
        # Names for single vectors are passed over, as the library does.
        similarity=MEAN_MAXSIM if settings.get("similarity_fn_name") == MEAN_MAXSIM else MAXSIM,
        prompts=prompts_of(settings),
        tokens=read_token_vectors(folder, listed),
    )


def _read_splade(folder: Path, first: Module, second: Module) -> Pooling:
    """SpladePooling behind a masked language model."""
    file = folder / second.path / "config.json"
    settings, config = settings_of(folder, "SparseEncoder"), optional(file)
    mode, through = config.get("pooling_strategy", "max"), config.get("activation_function", "relu")
    if mode not in ("max", "sum") or through not in ("relu", "log1p_relu"):
        raise CheckpointError(
            "Expected pooling_strategy max or sum and activation_function relu or log1p_relu in "
            f"{str(file)!r}, received {mode!r} and {through!r}."
        )
    if settings.get("max_active_dims") is not None:
        raise CheckpointError(
            f"The sparse encoder in {str(folder)!r} keeps max_active_dims {settings['max_active_dims']!r} "
            "tokens of a vector, which optkit does not do.",
            hint="Set it to null in config_sentence_transformers.json, and cut vectors where you search.",
        )
    default = "feature-extraction" if first.kind == "Transformer" else None
    max_length, lowercase = text_settings(folder, "fill-mask", default)
    similarity = {"similarity_fn_name": settings.get("similarity_fn_name") or "dot"}
    return Pooling(
        (mode,),
        max_length=max_length,
        lowercase=lowercase,
        prompt=prompt_of(settings, folder),
        similarity=_similarity(similarity, folder),
        prompts=prompts_of(settings),
        splade=through,
    )


@dataclass(frozen=True)
class Scoring:
    """How a cross-encoder's logits become scores, by a class of torch.nn, and how its texts are prepared."""

    activation: str
    max_length: int | None = None
    lowercase: bool = False


def read_scoring(folder: Path) -> Scoring | None:
    """What the cross-encoder in `folder` does beside its model; None where `folder` has none.

    A cross-encoder is a classifier whose modules.json lists one Transformer, or whose config.json has one of
    `CROSS_ENCODER`, as sentence-transformers below 6 wrote it. Raises CheckpointError for other settings.
    """
    config = optional(folder / "config.json")
    if not str((config.get("architectures") or [""])[0]).endswith("ForSequenceClassification"):
        return None
    listed = modules(folder)
    if len(listed) > 1 or (listed and listed[0].kind != "Transformer"):
        return None
    if not listed and not CROSS_ENCODER & set(config):
        return None
    stated = (config.get("sentence_transformers") or {}).get("activation_fn")
    stated = stated or config.get("sbert_ce_default_activation_function")
    max_length, lowercase = None, False
    settings = optional(folder / "config_sentence_transformers.json") if listed else {}
    if settings.get("model_type") == "CrossEncoder":
        max_length, lowercase = text_settings(folder, "sequence-classification")
        stated = settings.get("activation_fn") or stated
        if prompt_of(settings, folder):
            raise CheckpointError(
                f"The cross-encoder in {str(folder)!r} puts a prompt before texts, which optkit does not.",
                hint="Give it with the texts: set default_prompt_name to null.",
            )
    else:  # sentence-transformers reads nothing but the model then
        refuse_chat_template(folder)
    one = len(config.get("id2label") or ()) == 1
    default = "torch.nn.Sigmoid" if one else "torch.nn.Identity"
    known = SCORING if one else ("Identity",)
    return Scoring(activation(str(stated or default), folder / "config.json", known), max_length, lowercase)


def _default_modes(folder: Path) -> tuple[str, ...]:
    config = optional(folder / "config.json")
    first = (config.get("architectures") or [""])[0]
    return ("lasttoken",) if first.endswith("ForCausalLM") and config.get("is_causal", True) else ("mean",)


def _pooling_module(file: Path) -> tuple[tuple[str, ...], bool]:
    """The modes, and whether the tokens of a prompt count."""
    config = optional(file)
    if not config:
        raise CheckpointError(f"Expected the pooling's own settings in {str(file)!r}; there are none.")
    stated = config.get("pooling_mode")
    if stated is None:
        flags = [mode for key, mode in _LEGACY.items() if config.get(key)]
        stated = flags or ["mean"]
    modes = (stated,) if isinstance(stated, str) else tuple(stated)
    if not modes or any(mode not in MODES for mode in modes):
        raise CheckpointError(
            f"Expected pooling modes among {', '.join(MODES)} in {str(file)!r}, received {stated!r}."
        )
    return modes, config.get("include_prompt") is not False


def _layer(kind: str, folder: Path, path: str, on: str = "sentence_embedding") -> Layer:
    """A module that works on what is called `on`."""
    file = folder / path / "config.json"
    config = optional(file)
    default = on if kind == "Dense" else "sentence_embedding"  # as each is loaded where nothing is stated
    for key in ("module_input_name", "module_output_name"):
        stated = config.get(key) or config.get("module_input_name") or default
        if stated != on:
            raise CheckpointError(
                f"Expected {kind} on {on} in {str(file)!r}, received {key} {stated!r}.",
                hint=_HINT,
            )
    if kind == "Normalize":
        return Layer(kind)
    weights = folder / path / "model.safetensors"
    if not weights.exists() and any(folder.glob("*.safetensors")):  # a graph has them inside
        raise CheckpointError(
            f"Expected the weights of {kind} in {str(weights)!r}; there are none.",
            hint="SentenceTransformer(FOLDER).save_pretrained(NEW) writes safetensors; nothing is unpickled.",
        )
    needed = ("in_features", "out_features") if kind == "Dense" else ("dimension",)
    for key in needed:
        if not isinstance(config.get(key), int) or config[key] < 1:
            raise CheckpointError(
                f"Expected {key} of {kind} above 0 in {str(file)!r}, received {config.get(key)!r}."
            )
    if kind == "LayerNorm":
        return Layer(kind, path, config["dimension"], config["dimension"])
    stated = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    return Layer(
        kind,
        path,
        config["in_features"],
        config["out_features"],
        bool(config.get("bias", True)),
        activation(stated, file),
        bool(config.get("use_residual", False)),
    )


def activation(stated: str, file: Path, known: tuple[str, ...] = ACTIVATIONS) -> str:
    """The class of torch.nn named by `stated`, such as torch.nn.modules.activation.Tanh; it is not imported.

    Raises CheckpointError for any other than `known`.
    """
    name = stated.rpartition(".")[2]
    if not re.fullmatch(r"torch\.nn\.(modules\.(activation|linear)\.)?\w+", stated) or (name not in known):
        raise CheckpointError(
            f"Expected an activation function of torch.nn among {', '.join(known)} in {str(file)!r}, "
            f"received {stated!r}.",
            hint=did_you_mean(name, known),
        )
    return name


def _truncate_dim(settings: dict[str, Any], folder: Path) -> int | None:
    value = settings.get("truncate_dim")
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise CheckpointError(
            f"Expected truncate_dim above 0 in config_sentence_transformers.json of {str(folder)!r}, "
            f"received {value!r}."
        )
    return value


def _similarity(settings: dict[str, Any], folder: Path) -> str:
    name = settings.get("similarity_fn_name") or "cosine"
    if name not in SIMILARITIES:
        raise CheckpointError(
            f"Expected similarity_fn_name among {', '.join(SIMILARITIES)} in {str(folder)!r}, "
            f"received {name!r}."
        )
    return name
