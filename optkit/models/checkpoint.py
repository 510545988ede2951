"""Hugging Face checkpoints in torch: checked before they are trusted.

`fetch` turns a folder or a hub name into an `hf` artifact, `load_model` gives the torch module.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optkit.core.artifact import Artifact, copy_side_files
from optkit.core.reading import read_json
from optkit.core.schema.graph_files import check_graphs
from optkit.core.schema.model_files import needs_code
from optkit.errors import CheckpointError, OptkitError, first_line
from optkit.models import adapter, tokenization
from optkit.models.adapted import by_last_end
from optkit.models.architectures import refuse_other_library, task_of
from optkit.models.pooling import encoder_of, is_pooled, save_layers
from optkit.models.signing import open_signed
from optkit.models.soundness import check_model
from optkit.models.task import TASKS, Shape

if TYPE_CHECKING:
    import transformers


_HUB_NAME = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def fetch(
    source: str | Path, trust_remote_code: bool = False, verify_key: str | Path | None = None
) -> Artifact:
    """The checkpoint at a local folder, or, when no such folder exists, on the hub.

    Reads nothing but JSON, text and safetensors. A LoRA adapter is merged with its base first. What optkit
    made is compared with its manifest: results that are kept go by the sums there; with a public `verify_key`
    also with the folder's signature. Raises CheckpointError with what to do next.
    """
    path = locate(source, everything=verify_key is not None)
    if adapter.is_adapter(path):
        return adapter.merged(path, trust_remote_code, verify_key)
    artifact = open_signed(path, verify_key)
    artifact.verify()
    if artifact.format == "hf":
        _check_weights(path)
        _refuse_code(artifact, trust_remote_code)
        _ensure_tokenizer(path)
    check_graphs(artifact.model_files)
    return artifact


def locate(source: str | Path, everything: bool = False) -> Path:
    """`source`; where no such folder exists and it is a hub name, the folder that it was downloaded into.

    A signature speaks of `everything` in it; else nothing is downloaded that is not read.
    """
    path = Path(source)
    if not os.path.exists(path) and isinstance(source, str) and _HUB_NAME.match(source) and "/" in source:
        return _download(source, None if everything else _HUB_FILES)
    return path


def load_model(
    path: str | Path | Artifact, task: str | None = None, trust_remote_code: bool = False
) -> transformers.PreTrainedModel:
    """The torch module in fp32 and evaluation mode, from an `hf` artifact or checkpoint folder.

    Raises CheckpointError for unknown architectures, missing or unexpected weights, and NaN.

    >>> load_model("models/sst2").training
    False
    """
    import torch
    import transformers

    from optkit.models.architectures import infer_task
    from optkit.models.uneven.loading import from_pretrained

    artifact = path if isinstance(path, Artifact) else Artifact.open(path)
    if artifact.format != "hf":
        raise CheckpointError(f"Expected a checkpoint (format hf), received format {artifact.format!r}.")
    _refuse_code(artifact, trust_remote_code)
    goal = TASKS[task or infer_task(artifact)].of(artifact.config)
    goal.check_architecture(artifact.config, *(artifact.config.get("architectures") or ["This model"])[:1])
    auto = getattr(transformers, goal.auto_class_of(artifact.config))
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, info = from_pretrained(
            auto,
            str(artifact.path),
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except OptkitError:
        raise
    except Exception as reason:
        kind = artifact.config.get("model_type")
        raise CheckpointError(
            f"transformers cannot load {str(artifact.path)!r} (model_type {kind!r}) as {auto.__name__}: "
            f"{first_line(reason)}",
            hint="Check model_type and architectures in config.json, and the transformers version.",
        ) from reason
    missing = sorted(k for k in info["missing_keys"] if not set(goal.unused) & set(k.split(".")))
    if missing:
        raise CheckpointError(
            f"{len(missing)} weights that {type(model).__name__} needs are not in the checkpoint, "
            f"for example {missing[0]!r}; they would be random.",
            hint="Fine-tune the model for this task first, or name the right --task.",
        )
    model = by_last_end(goal.adapted(model))
    model.optkit_task = goal.name
    check_model(model, artifact, goal, model_inputs(model))
    model = goal.completed(model, artifact)
    model.optkit_task = goal.name
    return model.eval()


def save_model(model: transformers.PreTrainedModel, source: Artifact, out: Path) -> None:
    """Write a torch module made of the checkpoint `source` into `out`, with the tokenizer and settings.

    config.json is the module's own; of a pooled encoder the encoder is written.
    """
    encoder_of(model).save_pretrained(str(out))
    copy_side_files(source.path, out, but=("config.json",))
    if is_pooled(model):
        save_layers(model, out)


def model_inputs(model: transformers.PreTrainedModel) -> list[str]:
    """The encoded inputs this model takes, in the order of its forward method.

    `token_type_ids` counts only where there is more than one type to tell apart (RoBERTa has one, and GPT-2,
    which names none, would add the embedding of token 0 to every other).
    """
    import inspect

    if isinstance(declared := getattr(model, "inputs", None), list):  # a pair of texts
        return declared
    task = str(getattr(model, "optkit_task", ""))
    also = TASKS[task].also_reads if task in TASKS else ()
    pools, model = is_pooled(model), encoder_of(model)
    accepted = inspect.signature(model.forward).parameters
    if "pixel_values" in accepted:  # an image is never padded, so its optional mask is left out
        return ["pixel_values"]
    if sound := [n for n in ("input_values", "input_features") if n in accepted]:
        return sound[:1]  # never padded, either
    names = [
        n
        for n in ("input_ids", *also, "attention_mask", "token_type_ids")
        if n in accepted or (pools and n == "attention_mask")
    ]
    if getattr(model.config, "type_vocab_size", 0) < 2 and "token_type_ids" in names:
        names.remove("token_type_ids")
    return names


def model_outputs(model: transformers.PreTrainedModel) -> dict[str, Shape]:
    """The outputs that optkit reads from this model, with their shapes."""
    return TASKS[task_of_model(model)].of(model.config.to_dict()).model_outputs(model)


def task_of_model(model: transformers.PreTrainedModel) -> str:
    """The task that `load_model` loaded this model for; of one from elsewhere, that of its class."""
    task = getattr(model, "optkit_task", None) or task_of({"architectures": [type(model).__name__]})
    if task is None:
        raise CheckpointError(
            f"Expected a model of a known task, received a {type(model).__name__}.", hint="Use load_model."
        )
    return str(task)


def is_per_token(shape: Sequence[int | str]) -> bool:
    """Whether an output of this shape has values for every token, and padding where there is none.

    >>> is_per_token(("batch", "sequence", 9)), is_per_token(("batch", 2))
    (True, False)
    """
    return "sequence" in shape


def _refuse_code(artifact: Artifact, trust_remote_code: bool) -> None:
    """Refuse what transformers would import, fetch or take from elsewhere for this checkpoint."""
    config, path = artifact.config, str(artifact.path)
    refuse_other_library(config)
    if needs_code(config) and not trust_remote_code:
        raise CheckpointError(
            f"{path!r} needs code of its own (auto_map in config.json), which optkit does not run.",
            hint="Read that code, and if you trust it give --trust-remote-code.",
        )
    if config.get("quantization_config"):
        raise CheckpointError(
            f"Expected a checkpoint in full or half precision, received a quantized one in {path!r} "
            "(quantization_config in config.json).",
            hint="Take the checkpoint that it was made from: optkit quantizes it itself.",
        )
    if (artifact.path / "adapter_config.json").exists():  # transformers would load the base it names
        raise CheckpointError(
            f"Expected a whole checkpoint, received a LoRA adapter in {path!r} (adapter_config.json).",
            hint="Merge it first: PeftModel.from_pretrained(base, adapter).merge_and_unload().",
        )


def _check_weights(path: Path) -> None:
    """Open each safetensors file's header: a truncated, corrupt or missing file fails here, at once."""
    from safetensors import SafetensorError, safe_open

    if (path / "model.safetensors.index.json").exists():
        index = read_json(path / "model.safetensors.index.json", CheckpointError)
        shards = {str(name) for name in (index.get("weight_map") or {}).values()}
        if absent := sorted(name for name in shards if not (path / name).exists()):
            raise CheckpointError(
                f"{len(absent)} of {len(shards)} files of weights are missing in {str(path)!r}, for example "
                f"{absent[0]!r}.",
                hint="Copy or download the folder again, with all that model.safetensors.index.json names.",
            )
    elif not (path / "model.safetensors").exists():
        others = sorted(file.name for file in path.glob("*.safetensors"))
        raise CheckpointError(
            f"Expected model.safetensors or model.safetensors.index.json in {str(path)!r}, received "
            f"{', '.join(others[:4])}.",
            hint="transformers reads these two names: rename the file, or add the index of the parts.",
        )
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(str(file), framework="np") as weights:
                weights.keys()
        except (SafetensorError, OSError) as reason:
            raise CheckpointError(
                f"{str(file)!r} is truncated or corrupt: {first_line(reason)}",
                hint="Copy or download the file again.",
            ) from reason


def _ensure_tokenizer(path: Path) -> None:
    if tokenization.is_there(path) or any((path / name).exists() for name in tokenization.PROCESSORS):
        return
    raise CheckpointError(
        f"Expected tokenizer.json in {str(path)!r}; it is missing.",
        hint="Save it beside the model: AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER).",
    )


def _download(name: str, patterns: list[str] | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as reason:
        raise CheckpointError(
            f"{name!r} is no local folder, and could not be had from the hub: {first_line(reason)}",
            hint="Check the spelling and the network, or give a local folder.",
        ) from reason
