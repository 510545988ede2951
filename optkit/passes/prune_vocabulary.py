"""`prune-vocabulary`: drop the tokens that the training data never uses; the embeddings shrink with them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.files import read_json, write_json
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models import tokenization
from optkit.models.pooling import encoder_of
from optkit.passes.base import Pass, PassContext, param
from optkit.tasks.base import Task

#: Settings in which ids of tokens stand.
_SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json")


@dataclass(frozen=True)
class PruneVocabulary(Pass):
    """Tokens that the training data does not use are dropped: smaller, not faster; answers stay.

    Kept are the tokens of the training split, special and added tokens, and the safety set: every token of
    one character, so that an unseen word is spelled and not lost, and `common` tokens from the front of the
    vocabulary, which lists frequent ones first in most models. tokenizer.json is rewritten (WordPiece,
    WordLevel, BPE, Unigram); texts of kept tokens are read as before. Comes after `distill`. Notes: tokens
    before and after, and how many tokens and texts of the test data (else validation) are read differently.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    needs_data: ClassVar[bool] = True
    needs_own_data: ClassVar[bool] = True
    suffix: ClassVar[str] = "pruned"
    keeps_answers: ClassVar[bool] = False  # texts with tokens that went

    common: int = param(0, "keep so many tokens from the front of the vocabulary too", minimum=0)

    def check(self, checkpoint: Artifact, task: Task) -> None:
        if task.predicts_tokens:
            raise RecipeError(
                "Expected a model that reads texts, received a language model, which writes them: with "
                "another vocabulary its accuracy or perplexity per token cannot be compared any more.",
                hint="Leave prune-vocabulary out.",
            )
        if checkpoint.config.get("model_type") == "ibert":
            raise RecipeError(
                "Expected plain embeddings; those of I-BERT hold integers beside them, which cannot be cut.",
                hint="Leave prune-vocabulary out.",
            )
        if not (checkpoint.path / "tokenizer.json").exists():
            raise RecipeError(
                "Expected a model that reads texts; this one has no vocabulary.",
                hint="Leave prune-vocabulary out.",
            )

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        import numpy as np
        import torch

        from optkit.models.checkpoint import load_model, save_model
        from optkit.passes.pruning import vocabulary

        self.check(source, context.task)
        tokenizer = json.loads(tokenization.read(source.path).tokenizer)
        before = vocabulary.vocabulary(tokenizer)
        used = _ids(context, "train")
        keep = vocabulary.kept(tokenizer, {*np.concatenate(used).tolist()}, before[: self.common])
        context.progress("loading the checkpoint", 0.2)
        model = load_model(source, context.task.name, context.trust_remote_code)
        network = encoder_of(model)
        old = network.get_input_embeddings()
        if len(keep) == old.weight.shape[0]:
            raise RecipeError("Nothing to prune: the training data uses every token of the vocabulary.")
        if old.weight.shape[0] < len(before):
            raise CheckpointError(
                f"Expected an embedding for each of {len(before)} tokens, received {old.weight.shape[0]}."
            )
        pad = network.config.pad_token_id
        new = torch.nn.Embedding(len(keep), old.weight.shape[1], keep.index(pad) if pad in keep else None)
        new.weight = torch.nn.Parameter(old.weight.detach()[keep].clone())
        network.set_input_embeddings(new)
        network.config.vocab_size = len(keep)
        save_model(model, source, out)
        write_json(out / "tokenizer.json", vocabulary.shrunk(tokenizer, keep))
        for name in _SETTINGS:
            if (out / name).exists():
                settings = read_json(out / name, CheckpointError)
                write_json(out / name, vocabulary.renumbered(settings, keep))
        return {
            "tokens_before": len(before),
            "tokens_after": len(keep),
            "embedding_bytes_saved": 4 * old.weight.shape[1] * (old.weight.shape[0] - len(keep)),
            **_lost(context, set(keep)),
        }


def _ids(context: PassContext, split: str) -> list[np.ndarray]:
    arrays = context.encoded(split, None).arrays
    if "input_ids" not in arrays:
        raise RecipeError("Expected a model that reads texts; this one has no vocabulary.")
    return arrays["input_ids"]


def _lost(context: PassContext, keep: set[int]) -> dict[str, Any]:
    """How much of the test split (without one, of validation) has tokens that went."""
    for split in ("test", "validation"):
        try:
            context.rows(split)
        except DataError:
            continue
        texts = [[int(i) not in keep for i in row] for row in _ids(context, split)]
        return {
            "checked_on": split,
            "tokens_lost": sum(map(sum, texts)),
            "tokens_checked": sum(map(len, texts)),
            "texts_with_lost_tokens": sum(map(any, texts)),
            "texts_checked": len(texts),
        }
    return {}
