"""The settings files of a model folder, as far as optkit and the libraries that it calls read them.

Other keys may stand there, of any type; but nothing in a settings file may load code, or a file that lies
elsewhere: see `_refuse`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from optkit.core.reading import Json, parse_json, read_text
from optkit.core.schema.base import Checked, FileName, Known, Line, Number, Sha256, check, check_value
from optkit.core.schema.sentence_pieces import FILE as PIECES
from optkit.core.schema.sentence_pieces import Pieces
from optkit.core.schema.stored_answers import FILE as STORED_ANSWERS
from optkit.core.schema.stored_answers import StoredAnswers

Size = Annotated[int, Field(ge=0, lt=2**24)]
#: Layers, experts: modules are made one by one, before the first weight is missed.
Few = Annotated[int, Field(ge=0, le=10_000)]
Stride = Annotated[int, Field(ge=1, lt=2**16)]
Strides = Annotated[list[Stride], Field(min_length=1, max_length=100)]
Token = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Tokens = Token | list[Token] | None
#: Repetition counted in the pattern would cost 50 ms to compile: \w is 700 ranges of characters.
Word = Annotated[str, Field(pattern=r"^[\w.+-]+$", max_length=200)]


class Config(Known):
    """config.json"""

    model_type: Word | None = None
    architectures: list[Word] | None = Field(None, max_length=100)
    problem_type: Word | None = None
    sentence_transformers: dict[str, Any] | None = None
    sbert_ce_default_activation_function: str | None = None
    id2label: dict[Line, Line | int] | None = Field(None, max_length=1_000_000)
    label2id: dict[Line, Any] | None = Field(None, max_length=1_000_000)
    num_labels: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    null_score_diff_threshold: Annotated[Number, Field(ge=-1e6, le=1e6)] | None = None
    vocab_size: Size | None = None
    type_vocab_size: Size | None = None
    max_position_embeddings: Annotated[int, Field(ge=-1, lt=2**24)] | None = None
    n_positions: Annotated[int, Field(ge=-1, lt=2**24)] | None = None
    hidden_size: Size | None = None
    num_hidden_layers: Few | None = None
    num_attention_heads: Size | list[Size] | None = None  # one for each stage of some image models
    num_channels: Size | None = None
    conv_kernel: Strides | Size | None = None  # a number: of a state-space model
    conv_stride: Strides | None = None
    squeeze_factor: Stride | None = None
    mask_time_length: Size | None = None
    inputs_to_logits_ratio: Size | None = None
    image_size: Size | list[Size] | dict[str, Size] | None = None
    pad_token_id: Tokens = None
    bos_token_id: Tokens = None
    eos_token_id: Tokens = None


class GenerationConfig(Known):
    """generation_config.json"""

    pad_token_id: Tokens = None
    bos_token_id: Tokens = None
    eos_token_id: Tokens = None


class TokenizerConfig(Known):
    """tokenizer_config.json"""

    tokenizer_class: Word | None = None
    model_max_length: Annotated[int, Field(ge=1)] | Annotated[Number, Field(ge=1)] | None = None
    model_input_names: list[Word] | None = None
    truncation_side: Word | None = None
    padding_side: Word | None = None
    do_lower_case: bool | None = None
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool | None = None
    add_prefix_space: bool | None = None
    pad_token: str | dict[str, Any] | None = None


#: special_tokens_map.json
SPECIAL_TOKENS: TypeAdapter[Any] = TypeAdapter(
    dict[str, str | dict[str, Any] | list[str | dict[str, Any]] | None], config=ConfigDict(defer_build=True)
)


class Encoding(Checked):
    """encoding.json, which optkit writes: see `optkit.models.tokenization`."""

    tokenizer_sha256: Sha256
    inputs: list[Word] = Field(max_length=100)
    max_length: Annotated[int, Field(gt=0)] | None
    truncation_side: Literal["left", "right"]
    padding_side: Literal["left", "right"]
    pad_id: Token | None
    split_special_tokens: bool
    kind: Word
    version: Line
    notes: list[str] = Field(max_length=100)
    pair_notes: list[str] = Field(max_length=100)
    mask_token: Line | None = None
    pieces: bool = False
    chat_template: Annotated[str, Field(max_length=200_000)] | None = None
    special_tokens: dict[Word, Annotated[str, Field(max_length=1000)]] = Field({}, max_length=100)


Edge = Annotated[int, Field(ge=0, lt=2**16)]
ImageSize = Edge | list[Edge] | dict[str, Edge | None] | None
Rate = Annotated[int, Field(ge=1, le=384_000)]
Fourier = Annotated[int, Field(ge=1, lt=2**16)]
PerChannel = Number | Annotated[list[Number], Field(max_length=64)] | None


class Processor(Known):
    """preprocessor_config.json"""

    image_processor_type: Word | None = None
    feature_extractor_type: Word | None = None
    size: ImageSize = None
    crop_size: ImageSize = None
    resample: Annotated[int, Field(ge=0, le=5)] | None = None
    rescale_factor: Number | None = None
    image_mean: PerChannel = None
    image_std: PerChannel = None
    do_resize: bool | None = None
    do_center_crop: bool | None = None
    do_rescale: bool | None = None
    do_normalize: bool | None = None
    default_to_square: bool | None = None
    sampling_rate: Rate | None = None
    feature_size: Edge | None = None
    num_mel_bins: Edge | None = None
    max_length: Edge | None = None
    mean: Number | None = None
    std: Number | None = None
    n_fft: Fourier | None = None
    hop_length: Fourier | None = None
    chunk_length: Annotated[int, Field(ge=1, le=60)] | None = None
    dither: Number | None = None


class WholeProcessor(Known):
    """processor_config.json"""

    feature_extractor: Processor | None = None


class Module(Known):
    """A line of modules.json. sentence-transformers imports what `type` names, so only its own classes."""

    idx: int = 0
    name: str = ""
    path: FileName | Annotated[str, Field(max_length=0)] = ""
    type: Annotated[str, Field(pattern=r"^sentence_transformers\.[\w.]+$", max_length=230)]


#: modules.json
MODULES: TypeAdapter[Any] = TypeAdapter(
    Annotated[list[Module], Field(max_length=100)], config=ConfigDict(defer_build=True)
)


class Prompts(Known):
    """config_sentence_transformers.json"""

    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None
    truncate_dim: Annotated[int, Field(ge=1, lt=2**24)] | None = None
    similarity_fn_name: str | None = None
    model_type: Word | None = None
    activation_fn: Line | None = None


class SentenceBert(Known):
    """sentence_bert_config.json"""

    max_seq_length: Annotated[int, Field(ge=1, lt=2**24)] | None = None
    modality_config: dict[str, dict[str, Any]] | None = None
    model_args: dict[str, Any] | None = None
    model_kwargs: dict[str, Any] | None = None
    tokenizer_args: dict[str, Any] | None = None
    processor_kwargs: dict[str, Any] | None = None
    do_lower_case: bool | None = None


class ModuleConfig(Known):
    """config.json of a sentence-transformers module, such as 1_Pooling."""

    word_embedding_dimension: Size | None = None
    embedding_dimension: Size | None = None
    pooling_mode: Line | list[Line] | None = None
    include_prompt: bool | None = None
    in_features: Size | None = None
    out_features: Size | None = None
    dimension: Size | None = None
    bias: bool | None = None
    use_residual: bool | None = None


class WeightIndex(Known):
    """*.safetensors.index.json"""

    weight_map: dict[str, FileName] = Field(max_length=1_000_000)


Schema = type[BaseModel] | TypeAdapter[Any]
SCHEMAS: dict[str, Schema] = {
    "config.json": Config,
    "generation_config.json": GenerationConfig,
    "tokenizer_config.json": TokenizerConfig,
    "special_tokens_map.json": SPECIAL_TOKENS,
    "encoding.json": Encoding,
    PIECES: Pieces,
    "preprocessor_config.json": Processor,
    "processor_config.json": WholeProcessor,
    "modules.json": MODULES,
    "config_sentence_transformers.json": Prompts,
    STORED_ANSWERS: StoredAnswers,
}


def schema_of(name: str) -> Schema | None:
    """The schema of the file `name` of a model folder; None for one that optkit does not read as JSON."""
    if name.endswith(".index.json"):
        return WeightIndex
    if re.fullmatch(r"\d+_[^/]*/config\.json", name):
        return ModuleConfig
    return SentenceBert if re.fullmatch(r"sentence_[\w-]+_config\.json", name) else SCHEMAS.get(name)


def checked(file: Path, name: str, error: type[Exception]) -> dict[str, Any]:
    """The object in `file`, which is `name` in its folder. Raises `error` where its schema is not met."""
    value = cast(dict[str, Any], parse_json(read_text(file, error), str(file), error, finite=False))
    schema = schema_of(name)
    assert schema is not None
    if isinstance(schema, TypeAdapter):
        check_value(schema, value, file, error)
    else:
        check(schema, value, file, error)
    _walk(value, lambda key, item: _refuse(key, item, file, error))
    return value


def needs_code(value: Json) -> bool:
    """Whether a settings file names code of the checkpoint's own, which only the caller may allow."""
    keys: list[str] = []
    _walk(value, lambda key, item: keys.append(key) if key == "auto_map" and item else None)
    return bool(keys)


def _walk(value: Json, look: Callable[[str, Any], None]) -> None:
    """`look` at every key with its value, however deep."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            for key, inner in item.items():
                look(key, inner)
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _refuse(key: str, value: Json, file: Path, error: type[Exception]) -> None:
    """Raise `error` where transformers or sentence-transformers would import, fetch or open what it names."""
    texts = [value] if isinstance(value, str) else list(value.values()) if isinstance(value, dict) else []
    texts = [text for text in texts if isinstance(text, str)]
    wrong = ""
    if key == "trust_remote_code" and value:
        wrong = "no trust_remote_code, which only the caller gives"
    elif key.endswith("_implementation") and any(re.search(r"[^\w|-]|kernels", text) for text in texts):
        wrong = f"{key} to be one that transformers has"  # others are fetched from the hub
    elif key in ("activation_fn", "activation_function") and any(
        "." in text and not re.fullmatch(r"torch\.nn\.(modules\.)?[\w.]+", text) for text in texts
    ):
        wrong = f"{key} to be one of torch.nn"
    elif key == "transformers_weights" and any(not re.fullmatch(r"[\w.-]+\.safetensors", t) for t in texts):
        wrong = f"{key} to be a safetensors file of the folder"
    elif key in ("dtype", "torch_dtype") and any(not re.fullmatch(r"(torch\.)?\w+", t) for t in texts):
        wrong = f"{key} to be the name of a type"
    elif key in ("num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers") or key.endswith(
        ("hidden_layers", "_experts")
    ):
        if isinstance(value, int) and value > 10_000:
            wrong = f"{key} of at most 10,000"
    elif key in ("tokenizer_file", "vocab_file", "merges_file", "spm_file") and any(map(_elsewhere, texts)):
        wrong = f"{key} in its own folder"
    if wrong:
        raise error(f"Expected {wrong} in {str(file)!r}, received {str(value)[:80]!r}.")


def _elsewhere(text: str) -> bool:
    """Whether `text` is the path of a file that is there, outside of the folder; old ones lead nowhere."""
    path = Path(text)
    return (path.is_absolute() or ".." in path.parts) and os.path.exists(path)
