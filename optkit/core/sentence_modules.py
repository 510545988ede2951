"""modules.json of a sentence-transformers folder and the settings of its Transformer, read without torch.

Every module and setting that optkit takes does here what sentence-transformers does; any other is refused by
its name. Nothing that is named there is imported, and nothing outside of the folder is read.
Source: sentence-transformers 6.2, `base/model.py` and `base/modules/transformer.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optkit.core.reading import json_list, read_json
from optkit.errors import CheckpointError

#: The settings of the Transformer module, in the order in which sentence-transformers looks for them.
SENTENCE_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
#: Modules that may follow the pooling, and how modules.json names classes, before and since version 6.
BEHIND = ("Dense", "LayerNorm", "Normalize", "Dropout")
_PLACES = (
    r"models|(base|sentence_transformer|sparse_encoder|multi_vector_encoder)\.modules|sparse_encoder\.models"
)
_TYPES = rf"sentence_transformers\.({_PLACES})\.(\w+\.)?\w+"
#: The pooling of a SparseEncoder, and what stood before it until version 5.4.
SPLADE, _MASKED = "SpladePooling", "MLMTransformer"
#: The class of models that give a vector for each token, and its module that says which tokens count.
MULTI_VECTOR, TOKEN_MASK = "MultiVectorEncoder", "MultiVectorMask"
#: What follows its Transformer, in any order.
_TOKEN_BY_TOKEN = ("Dense", "Normalize", TOKEN_MASK)
#: Settings of PyLate, which sentence-transformers turns into its own.
_PYLATE = (
    *("query_prefix", "document_prefix", "skiplist_words", "query_length", "document_length"),
    *("query_expansion", "do_query_expansion", "attend_to_expansion_tokens", "attend_to_mask_tokens"),
)
#: Settings of the Transformer module that change its answers in a way that optkit does not follow.
_REFUSED = ("processing_kwargs", "config_kwargs", "config_args", "tokenizer_name_or_path")
#: Those that tell queries from documents: a MultiVectorEncoder's are followed.
SIDES = ("query_length", "document_length", "query_expansion")
#: What may stand in its arguments for the model and the tokenizer: nothing that changes an fp32 answer.
_HARMLESS = {
    "model_kwargs": ("attn_implementation", "dtype", "torch_dtype", "low_cpu_mem_usage", "use_safetensors"),
    "processor_kwargs": ("padding_side", "use_fast", "clean_up_tokenization_spaces"),
}
#: What may stand first and second.
_KNOWN = (("Transformer", _MASKED), ("Pooling", SPLADE))
#: What a Transformer module is loaded for → the output of the model that it hands on.
_OUTPUTS = {
    "feature-extraction": "last_hidden_state",
    "fill-mask": "logits",
    "sequence-classification": "logits",
}
_MODULE_OUTPUTS = {
    "feature-extraction": "token_embeddings",
    "fill-mask": "token_embeddings",
    "sequence-classification": "scores",
}


@dataclass(frozen=True)
class Module:
    """A line of modules.json: the class's name without its package, and the folder of its settings."""

    kind: str
    path: str


def modules(folder: Path) -> list[Module]:
    """modules.json of `folder`; [] where there is none. What it names is not imported.

    Raises CheckpointError for a module that optkit does not follow, or one in a place where none is.
    """
    file, by_token = folder / "modules.json", is_multi_vector(folder)
    listed = json_list(file, CheckpointError) if file.exists() else []
    parsed = [
        Module(str(one.get("type", "")).rpartition(".")[2], str(one.get("path") or "")) for one in listed
    ]
    if len({str(one.get("name", index)) for index, one in enumerate(listed)}) < len(listed):
        raise CheckpointError(
            f"Expected a name of its own for each module in {str(file)!r}, received one twice."
        )
    for index, module in enumerate(parsed):
        if index and by_token:
            known: tuple[str, ...] = _TOKEN_BY_TOKEN
        else:
            known = _KNOWN[index] if index < len(_KNOWN) else BEHIND if parsed[1].kind != SPLADE else ()
        if not re.fullmatch(_TYPES, str(listed[index].get("type", ""))) or module.kind not in known:
            raise CheckpointError(
                f"Expected {' or '.join(known) or 'no module'} at place {index} of "
                f"{'a MultiVectorEncoder, ' if by_token else ''}{str(file)!r}, received "
                f"{str(listed[index].get('type'))[:80]!r}.",
                hint=f"optkit follows Transformer, {'' if by_token else 'Pooling, '}then "
                f"{', '.join(_TOKEN_BY_TOKEN if by_token else BEHIND)}: save it without, or serve it with "
                "sentence-transformers.",
            )
        if index == 0 and module.path:
            raise CheckpointError(
                f"Expected the Transformer of {str(file)!r} in the folder itself, received {module.path!r}.",
                hint="SentenceTransformer(FOLDER).save_pretrained(NEW) writes it there.",
            )
        if index and not re.fullmatch(r"\d+_\w+", module.path):
            raise CheckpointError(
                f"Expected the folder of a module, such as 1_Pooling, in {str(file)!r}, received "
                f"{module.path!r}."
            )
    return parsed


def is_sparse(folder: Path) -> bool:
    """Whether the folder is a SparseEncoder's, whose vectors have a weight for each token."""
    return any(module.kind == SPLADE for module in modules(folder))


def is_multi_vector(folder: Path) -> bool:
    """Whether the folder is a MultiVectorEncoder's, which gives a vector for each token.

    Raises CheckpointError for one of PyLate or of Stanford's ColBERT, which sentence-transformers converts.
    """
    settings = optional(folder / "config_sentence_transformers.json")
    kind = settings.get("model_type")
    stanford = kind is None and "HF_ColBERT" in (optional(folder / "config.json").get("architectures") or ())
    if stanford or kind == "ColBERT" or (kind == MULTI_VECTOR and set(_PYLATE) & set(settings)):
        raise CheckpointError(
            f"Expected a folder as sentence-transformers 6 saves it in {str(folder)!r}, received one of "
            f"{'the ColBERT of Stanford' if stanford else 'PyLate'}, whose settings it has to convert.",
            hint="MultiVectorEncoder(FOLDER).save_pretrained(NEW), of sentence-transformers, writes it.",
        )
    return bool(kind == MULTI_VECTOR)


def transformer_settings(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """The file of the Transformer module's settings, None where there is none, and what it holds."""
    file = next((folder / name for name in SENTENCE_FILES if (folder / name).exists()), None)
    return file, optional(file) if file else {}


def text_settings(folder: Path, task: str, default: str | None = None) -> tuple[int | None, bool]:
    """The Transformer module's own limit in tokens (None: the tokenizer's), and whether it lowers case.

    `task` is sentence-transformers' name of what it is loaded for, `default` that of a module which does not
    say (None: the same). Raises CheckpointError for settings that optkit does not follow.
    """
    output = _OUTPUTS[task]
    file, settings = transformer_settings(folder)
    for old, new in (("model_args", "model_kwargs"), ("tokenizer_args", "processor_kwargs")):
        settings.setdefault(new, settings.get(old))
    refused = _REFUSED if is_multi_vector(folder) else (*_REFUSED, *SIDES)
    wrong = {key: settings[key] for key in refused if settings.get(key)}
    for key, harmless in _HARMLESS.items():
        wrong |= {name: x for name, x in (settings.get(key) or {}).items() if name not in harmless}
    settings.setdefault("transformer_task", default or task)
    for key, expected in (("transformer_task", task), ("module_output_name", _MODULE_OUTPUTS[task])):
        if settings.get(key, expected) != expected:
            wrong[key] = settings[key]
    modality = settings.get("modality_config")
    if modality is not None:
        text = modality.get("text") or {}
        if set(modality) != {"text"} or (text.get("method"), text.get("method_output_name")) != (
            "forward",
            output,
        ):
            wrong["modality_config"] = modality
    if wrong:
        name, value = next(iter(wrong.items()))
        raise CheckpointError(
            f"{str(file)!r} sets {name} to {str(value)[:80]!r}, which optkit does not follow.",
            hint="Apply it and save the folder without it; answers would differ otherwise.",
        )
    return settings.get("max_seq_length"), bool(settings.get("do_lower_case", False))


def settings_of(folder: Path, kind: str) -> dict[str, Any]:
    """config_sentence_transformers.json of a model of class `kind`: SentenceTransformer unless it says so."""
    settings = optional(folder / "config_sentence_transformers.json")
    if settings.get("model_type", "SentenceTransformer") != kind:
        raise CheckpointError(
            f"Expected a {kind} in {str(folder)!r}, received a {settings['model_type']} (model_type in "
            "config_sentence_transformers.json).",
            hint="optkit follows SentenceTransformer, CrossEncoder, MultiVectorEncoder and, with "
            "SpladePooling, SparseEncoder; serve it with sentence-transformers.",
        )
    return settings


def refuse_chat_template(folder: Path) -> None:
    """Raise CheckpointError where sentence-transformers would write texts into a chat template."""
    stated = optional(folder / "tokenizer_config.json").get("chat_template")
    files = [
        folder / name for name in ("chat_template.jinja", "chat_template.json") if (folder / name).exists()
    ]
    if stated or files:
        raise CheckpointError(
            f"The tokenizer in {str(folder)!r} has a chat template, into which sentence-transformers writes "
            "every text of a folder that it did not save; optkit does not.",
            hint="Delete chat_template.jinja, or chat_template in tokenizer_config.json.",
        )


def prompt_of(settings: dict[str, Any], folder: Path) -> str:
    """The prompt that `encode` puts before every text."""
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts") or {}
    if name is not None and name not in prompts and name not in ("query", "document"):
        raise CheckpointError(
            f"Expected default_prompt_name among the prompts in {str(folder)!r} "
            f"({', '.join(prompts) or 'none'}), received {name!r}."
        )
    return (prompts.get(name) or "") if name is not None else ""


def prompts_of(settings: dict[str, Any]) -> dict[str, str]:
    """All prompts by their names; `query` and `document`, of `encode_query` and `encode_document`, are always
    there, if only as no prompt."""
    stated = {"query": "", "document": "", **(settings.get("prompts") or {})}
    return {str(name): str(prompt or "") for name, prompt in stated.items()}


def optional(file: Path) -> dict[str, Any]:
    return read_json(file, CheckpointError) if file.exists() else {}
