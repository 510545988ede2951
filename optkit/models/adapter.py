"""A LoRA folder of peft (adapter_config.json beside adapter_model.safetensors), merged with its base.

The merged checkpoint is made once, in float32, and lies in a folder of the user's cache, named after all that
it follows from; its manifest says what was merged. The merging is peft's own, and the merged model is asked
beside the model with the adapter still apart: what answers otherwise is refused (a tied table, for one).
Source: Hu et al., "LoRA" (ICLR 2022); peft 0.21.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.core.artifact import Artifact, copy_files, copy_side_files, seal
from optkit.core.files import digest, sha256
from optkit.core.locks import locked
from optkit.core.output import staged, writing
from optkit.core.reading import read_json
from optkit.errors import CheckpointError, MissingDependency, OptkitError, first_line
from optkit.models import tokenization

if TYPE_CHECKING:
    import torch


CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: The name of the merging in a checkpoint's lineage.
STEP = "merge-adapter"
#: How far answers may lie apart, as a share of the largest: the products are added in another order.
NEAR = 1e-3
#: What adapter_config.json calls a task → the class of transformers that the adapter was trained with.
_CLASSES = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "FEATURE_EXTRACTION": "AutoModel",
}
#: Settings that merging follows, or that count in training alone; any other has to be off.
_FOLLOWED = {
    *("auto_mapping", "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "peft_type"),
    *("layers_pattern", "layers_to_transform", "target_modules", "exclude_modules", "modules_to_save", "r"),
    *("alpha_pattern", "rank_pattern", "lora_alpha", "lora_bias", "lora_dropout", "use_dora", "use_rslora"),
    *("init_lora_weights", "megatron_core", "peft_version", "qalora_group_size", "revision", "task_type"),
    "runtime_config",
}
#: How the names of a head's last layer end.
_HEADS = ("classifier.weight", "score.weight", "classifier.out_proj.weight", "qa_outputs.weight")
_BY_HAND = "Merge it in Python: PeftModel.from_pretrained(base, adapter).merge_and_unload()."


def is_adapter(path: str | Path) -> bool:
    """Whether the folder at `path` holds an adapter and no model."""
    folder = Path(path)
    return os.path.isfile(folder / CONFIG) and not os.path.exists(folder / "config.json")


def merged(folder: Path, trust_remote_code: bool = False, verify_key: str | Path | None = None) -> Artifact:
    """The checkpoint that the adapter in `folder` and its base make together, from the cache where it is.

    The base is `base_model_name_or_path`: a local folder, or a hub name whose snapshot is on this machine.
    Raises CheckpointError for an adapter that cannot be merged, and one that has to be signed, which the
    merged model is not; MissingDependency without peft.
    """
    from optkit.models.checkpoint import fetch

    if verify_key is not None:
        raise CheckpointError(
            f"Expected a signed model in {str(folder)!r}, received an adapter, which is merged first.",
            hint="Compress it, sign what comes out, and verify that.",
        )
    settings = _settings(folder)
    base = fetch(_base(settings, folder), trust_remote_code)
    try:
        versions = [metadata.version(name) for name in ("peft", "transformers")]
    except metadata.PackageNotFoundError as reason:
        raise MissingDependency.of("peft", "lora") from reason
    files = {file.name: sha256(file) for file in sorted(folder.iterdir()) if file.is_file()}
    out = _cache() / f"{folder.resolve().name}-{digest(files, base.fingerprint(), versions)[:16]}"
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out):
        if not out.exists():
            with staged(out) as partial:
                _merge(folder, settings, base, partial, trust_remote_code)
    return Artifact.open(out)


def merged_or_whole(path: str | Path, verify_key: str | Path | None = None) -> str | Path:
    """`path`, or where it is an adapter's folder, that of what `merged` makes of it."""
    return merged(Path(path), verify_key=verify_key).path if is_adapter(path) else path


def merge_note(artifact: Artifact) -> str:
    """What was merged, in one line; "" where nothing was."""
    step = next((step for step in artifact.lineage if step["pass"] == STEP), None)
    if step is None:
        return ""
    what, notes = step["parameters"], step["notes"]
    return (
        f"The checkpoint is the LoRA adapter {what['adapter']} merged into {what['base']}, in float32: "
        f"{notes['merged_layers']} layers, rank {notes['rank']}; by merging, answers changed by at most "
        f"{notes['difference']:.1e} of the largest."
    )


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "optkit" / "merged"


def _settings(folder: Path) -> dict[str, Any]:
    """adapter_config.json, where it is one that can be merged. Raises CheckpointError."""
    where = str(folder)
    if not (folder / WEIGHTS).is_file():
        pickled = (folder / "adapter_model.bin").exists()
        raise CheckpointError(
            f"Expected {WEIGHTS} in {where!r}"
            + (", received pickled weights (adapter_model.bin)." if pickled else "; it is missing."),
            hint="PeftModel.save_pretrained(FOLDER) writes it; nothing is unpickled.",
        )
    settings = read_json(folder / CONFIG, CheckpointError)
    if settings.get("peft_type") != "LORA":
        raise CheckpointError(
            f"Expected a LoRA adapter in {where!r}, received {str(settings.get('peft_type'))[:80]!r}.",
            hint=_BY_HAND,
        )
    wrong = {name: value for name, value in settings.items() if value and name not in _FOLLOWED}
    if settings.get("init_lora_weights", True) not in (True, False, "gaussian", "orthogonal", "eva"):
        wrong["init_lora_weights"] = settings["init_lora_weights"]  # changes the base's own weights
    if wrong:
        name, value = next(iter(wrong.items()))
        raise CheckpointError(
            f"{CONFIG} in {where!r} sets {name} to {str(value)[:80]!r}, which optkit does not merge.",
            hint=_BY_HAND,
        )
    return settings


def _base(settings: Mapping[str, Any], folder: Path) -> Path:
    """The folder of the model that the adapter was trained on. Nothing is downloaded for it."""
    name = str(settings.get("base_model_name_or_path") or "")
    if os.path.isdir(name):
        return Path(name)
    if name and not os.path.isabs(name):
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(name, revision=settings.get("revision"), local_files_only=True))
        except Exception:  # of the library's many, all say that it is not there
            pass
    raise CheckpointError(
        f"Expected the base of the adapter in {str(folder)!r} on this machine, received {name!r} "
        f"(base_model_name_or_path in {CONFIG}), which is neither a folder nor in the hub's cache.",
        hint="Write the path of its folder there.",
    )


def _merge(
    folder: Path, settings: Mapping[str, Any], base: Artifact, out: Path, trust_remote_code: bool
) -> None:
    import torch
    from safetensors.torch import load_file

    begun = time.monotonic()
    try:
        weights = load_file(str(folder / WEIGHTS))
    except Exception as reason:  # safetensors' own
        raise CheckpointError(
            f"{str(folder / WEIGHTS)!r} is truncated or corrupt: {first_line(reason)}",
            hint="Copy or download the file again.",
        ) from reason
    model, missing = _load(settings, base, weights, trust_remote_code)
    try:
        tuner, layers = _with_adapter(model, folder, weights)
    except OptkitError:
        raise
    except Exception as reason:  # peft's and torch's: shapes, names of modules
        raise CheckpointError(
            f"The adapter in {str(folder)!r} does not fit its base {str(base.path)!r}: "
            f"{' '.join(str(reason).split())[:300]}",
            hint="Check base_model_name_or_path and the versions of both.",
        ) from reason
    random = sorted(name for name in missing if f"base_model.model.{name}" not in weights)
    if random:
        raise CheckpointError(
            f"{len(random)} weights of the adapter's model are neither in its base nor in the adapter, for "
            f"example {random[0]!r}; they would be random.",
            hint="Save the adapter with its head: modules_to_save.",
        )
    inputs = _inputs(model)
    with torch.inference_mode():
        before = tuner(**inputs)[0]
        model = tuner.merge_and_unload()
        after = model(**inputs)[0]
    difference = float((before - after).abs().max() / before.abs().max().clamp(min=1e-12))
    if not difference <= NEAR:  # NaN too
        raise CheckpointError(
            f"Merged, the adapter in {str(folder)!r} answers otherwise than apart (a difference of "
            f"{difference:.2g} of the largest answer): a weight that it changes is used twice (tied).",
            hint="Train it without the layers that share weights, or save an untied base.",
        )
    model.save_pretrained(str(out))
    copy_side_files(base.path, out, but=("config.json",))
    copy_side_files(folder, out)
    modules = folder if (folder / "modules.json").exists() else base.path
    names = [f.relative_to(modules).as_posix() for f in modules.glob("[0-9]*_*/model.safetensors")]
    copy_files(modules, names, out)
    if tokenization.is_there(folder):  # a whole one: what the base's says beside it is of another
        for name in tokenization.SOURCES[1:4]:
            if not (folder / name).exists():
                (out / name).unlink(missing_ok=True)
        (out / tokenization.FILE).unlink(missing_ok=True)
    for file in (*base.path.glob("*.model"), *folder.glob("*.model")):
        shutil.copyfile(file, out / file.name)
    notes = {"merged_layers": layers, "rank": settings.get("r"), "difference": difference}
    step = {
        "pass": STEP,
        "parameters": {"adapter": folder.resolve().name, "base": str(settings["base_model_name_or_path"])},
        "notes": notes,
        "seconds": round(time.monotonic() - begun, 2),
    }
    seal(out, base, step, task=None)


def _load(
    settings: Mapping[str, Any],
    base: Artifact,
    weights: Mapping[str, torch.Tensor],
    trust_remote_code: bool,
) -> tuple[Any, list[str]]:
    """The base in the class that the adapter was trained in, and the names of weights that it lacks."""
    import torch
    import transformers

    from optkit.models.uneven.loading import from_pretrained

    stated = (settings.get("auto_mapping") or {}).get("base_model_class")
    stated = stated or str((base.config.get("architectures") or ["AutoModel"])[0])
    name = _CLASSES.get(str(settings.get("task_type")), stated)
    auto: Any = getattr(transformers, name, None)
    if not (name.startswith("AutoModel") or _is_model(auto)):
        raise CheckpointError(
            f"Expected a model class of transformers for the adapter, received {name!r}.",
            hint=f"Set task_type in {CONFIG}: one of {', '.join(_CLASSES)}.",
        )
    labels = [len(weight) for key, weight in weights.items() if key.endswith(_HEADS)]
    options: dict[str, Any] = {}
    if labels and len(base.config.get("id2label") or ()) != labels[0]:
        options["num_labels"] = labels[0]
    common: dict[str, Any] = {
        "dtype": torch.float32,
        "local_files_only": True,
        "use_safetensors": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": bool(options),  # a head of another number of labels
        **options,
    }
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        if name.startswith("AutoModel"):
            common["trust_remote_code"] = trust_remote_code
            model, info = from_pretrained(auto, str(base.path), **common)
        else:
            model, info = auto.from_pretrained(str(base.path), **common)
    except OptkitError:
        raise
    except Exception as reason:
        raise CheckpointError(
            f"transformers cannot load the adapter's base {str(base.path)!r} as {name}: {first_line(reason)}",
            hint=f"Check task_type in {CONFIG}.",
        ) from reason
    missing = {*info["missing_keys"], *(str(one[0]) for one in info.get("mismatched_keys", ()))}
    unused = ("pooler",) if name == "AutoModel" else ()  # no vector is made of it
    return model.eval(), [key for key in missing if not set(unused) & set(key.split("."))]


def _with_adapter(model: Any, folder: Path, weights: Mapping[str, torch.Tensor]) -> tuple[Any, int]:
    """`model` with the adapter apart, every weight of which found its place, and the number of its layers."""
    import peft

    config = peft.LoraConfig.from_pretrained(str(folder))
    config.inference_mode = True
    tuner = peft.get_peft_model(model, config)
    result = peft.set_peft_model_state_dict(tuner, dict(weights))
    lacking = [x for x in result.missing_keys if ".lora_" in x or ".modules_to_save." in x]
    wrong = sorted([*lacking, *result.unexpected_keys])
    if wrong:
        what = "lacks" if lacking else "has no place for"
        raise CheckpointError(
            f"The adapter in {str(folder)!r} does not fit its base: it {what} {len(wrong)} weights, for "
            f"example {wrong[0]!r}.",
            hint="Check base_model_name_or_path, target_modules and task_type.",
        )
    layers = sum(isinstance(module, peft.tuners.lora.LoraLayer) for module in tuner.modules())
    return tuner.eval(), layers


def _is_model(kind: Any) -> bool:
    import transformers

    return isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)


def _inputs(model: Any) -> dict[str, torch.Tensor]:
    """Something for the model to answer: two rows of drawn tokens, or of pixels."""
    import torch

    generator = torch.Generator().manual_seed(0)
    config = model.config
    if model.main_input_name == "pixel_values":
        size = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
        return {"pixel_values": torch.rand((2, config.num_channels, size, size), generator=generator)}
    ids = torch.randint(config.get_text_config().vocab_size, (2, 12), generator=generator)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    return inputs
