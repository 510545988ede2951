"""A torch model that was just loaded: does it read what its task gives it, and answer as it should?"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optkit.core.artifact import Artifact
from optkit.core.reading import read_json
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, first_line
from optkit.models.pooling import encoder_of
from optkit.models.task import ModelTask

if TYPE_CHECKING:
    import torch
    import transformers


#: Tokens of the text that is tried.
_TOKENS = 5
#: The largest difference that padding may make, as a share of the answer's size.
_TOLERANCE = 1e-3


def check_model(
    model: transformers.PreTrainedModel, artifact: Artifact, task: type[ModelTask], inputs: Sequence[str]
) -> None:
    """Raise CheckpointError where `model` needs other inputs, has NaN, or fails on a short text.

    `inputs` are those that it is given. Where the tokenizer pads on the left, padding on the right, as
    optkit does it, has to make no difference.
    """
    _refuse_other_inputs(model, task)
    refuse_nan(model)
    # A model of texts answers a short one; BigBird, asked so, would never look at blocks again.
    if "input_ids" in inputs and not task.generates and artifact.config.get("model_type") != "big_bird":
        _check_short_text(model, artifact, inputs)


def _check_short_text(model: transformers.PreTrainedModel, artifact: Artifact, inputs: Sequence[str]) -> None:
    import torch

    pad = model.config.pad_token_id
    pad = pad if isinstance(pad, int) and pad >= 0 else 0
    most = getattr(model.config, "vocab_size", None) or 256
    ids = [i for i in range(most // 2, most) if i != pad][:_TOKENS] or [0]
    ends = (getattr(model.config, name, None) for name in ("sep_token_id", "eos_token_id"))
    end = next((e for e in ends if isinstance(e, int) and 0 <= e < most), None)
    if end is not None and len(ids) == _TOKENS:
        ids[1:3] = ids[4:] = [end]  # BART looks for the end of the text, Longformer for that of the question
        ids.insert(1, end)

    def answer(padding: int, texts: int = 1) -> torch.Tensor:
        rows = torch.tensor([ids + [pad] * padding] * texts)
        feeds = {
            "input_ids": rows,
            "attention_mask": torch.tensor([[1] * len(ids) + [0] * padding] * texts),
            "token_type_ids": torch.zeros_like(rows),
            "bbox": torch.zeros((*rows.shape, 4), dtype=rows.dtype),
        }
        with torch.no_grad():
            return model(**{name: feeds[name] for name in inputs}, return_dict=True)[0]

    try:
        alone = answer(0)
    except Exception as reason:
        raise CheckpointError(
            f"{type(model).__name__} does not answer a text of {len(ids)} tokens: {first_line(reason)}",
            hint="Take an architecture that reads texts of any length.",
        ) from reason
    if model.config.pad_token_id is None:
        try:
            answer(0, texts=2)
        except ValueError as reason:
            raise CheckpointError(
                f"{type(model).__name__} answers one text at a time only: {reason}",
                hint="Set pad_token_id in config.json: the id of the tokenizer's padding or end of text.",
            ) from reason
    if _pads_left(artifact):
        padded = answer(3)
        padded = padded[:, : len(ids)] if alone.shape[:2] == (1, len(ids)) else padded
        if alone.shape != padded.shape or (alone - padded).abs().max() > _TOLERANCE * (1 + alone.abs().max()):
            raise CheckpointError(
                f"{type(model).__name__} answers otherwise where a text is padded on the right, and its "
                "tokenizer pads on the left, which optkit does not do.",
                hint="Take an architecture that leaves padding out of its answer, such as BERT or Llama.",
            )


def _pads_left(artifact: Artifact) -> bool:
    file = artifact.path / "tokenizer_config.json"
    return file.exists() and read_json(file, CheckpointError).get("padding_side") == "left"


def _refuse_other_inputs(model: transformers.PreTrainedModel, task: type[ModelTask]) -> None:
    """Raise CheckpointError where the model does not read what this task gives it, or needs more."""
    parameters = inspect.signature(model.forward).parameters
    known = (task.reads,) if isinstance(task.reads, str) else task.reads
    wanted = next((name for name in known if name in parameters), known[0])
    needed = [
        n for n, p in parameters.items() if p.default is p.empty and p.kind not in (2, 4) and n != wanted
    ]
    if task.generates and "past_key_values" not in parameters:
        raise CheckpointError(
            f"{type(model).__name__} keeps no keys and values of a text, which optkit generates with.",
            hint="Take a decoder with attention, such as Llama or GPT-2.",
        )
    if wanted not in parameters or needed:
        raise CheckpointError(
            f"{type(model).__name__} does not fit {task.name}: it "
            + (f"needs {', '.join(needed)} too." if wanted in parameters else f"does not read {wanted}."),
            hint="Name the right --task, or take a checkpoint of another architecture.",
        )


def refuse_nan(model: transformers.PreTrainedModel) -> None:
    """Raise CheckpointError where a weight of the torch module `model` is NaN or infinite."""
    import torch

    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"The weight {name!r} has NaN or infinite values.",
                hint="The checkpoint is damaged or its training diverged; take an earlier one.",
            )


def refuse_unknown_ids(model: transformers.PreTrainedModel, *texts: EncodedSet) -> None:
    """Raise CheckpointError where encoded `texts` hold token ids beyond the embedding of `model`."""
    ids = [row for encoded in texts for row in encoded.arrays.get("input_ids", ())]
    if not ids:
        return
    known = getattr(encoder_of(model).get_input_embeddings(), "num_embeddings", None)
    largest = max((int(row.max()) for row in ids if len(row)), default=0)
    if known is not None and largest >= known:
        raise CheckpointError(
            f"Expected token ids below {known:,}, which the model has embeddings for, received {largest:,}.",
            hint="The tokenizer and the weights do not fit each other; save both from one model.",
        )
