"""Fine-tuning for causal language modelling: every token of a document learns the one behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.errors import CheckpointError
from optkit.runtimes.token_logprobs import NONE, OUTPUT, TARGETS
from optkit.tasks.base import Columns, Labelled, Task
from optkit.tasks.causal_lm import CausalLM
from optkit.training.kinds import Kind


class CausalLMKind(Kind):
    auto_class = "AutoModelForCausalLM"

    def fits(self, rows: Any, columns: Columns) -> bool:
        """Texts and nothing beside them, which might be a label under any name."""
        known = [columns.text] if columns.text else CausalLM.columns["text"]
        alone = len(rows.column_names) == 1 and rows.column_names[0] in known
        return alone and columns.label is None and columns.pair is None

    def config(self, rows: Any, columns: Columns) -> dict[str, Any]:
        CausalLM.column(rows.column_names, "text", columns)
        return {}

    def task(self, source: Artifact, config: dict[str, Any], max_length: int | None) -> Task:
        task = CausalLM.from_artifact(source)
        task.encoder.truncate(max_length)
        return task

    def network(self, source: Artifact, config: dict[str, Any], load: Any) -> Any:
        """Raises CheckpointError for an encoder: it would learn to copy the token that it should predict."""
        network = super().network(source, config, load)
        if _looks_ahead(network):
            raise CheckpointError(
                f"Expected a decoder for causal-lm, received an encoder ({type(network).__name__}): its "
                "tokens see those behind them.",
                hint="Give a decoder such as GPT-2; to classify texts, name the label with --label-column.",
            )
        return network

    def targets(self, task: Task, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        """The tokens themselves, which the model shifts by one; a token of two windows is learned once."""
        return {"labels": [np.roll(row, 1) for row in labelled.encoded.arrays[TARGETS]]}

    def reduced(self, logits: Any, labels: Any) -> Any:
        """(batch, tokens, vocabulary) → log-likelihood of the token behind each, (batch, tokens)."""
        import torch

        logits = logits[0] if isinstance(logits, tuple) else logits
        behind = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=NONE)
        flat = torch.nn.functional.cross_entropy(
            logits.float().transpose(1, 2), behind, ignore_index=NONE, reduction="none"
        )
        return -flat

    def outputs(self, network: Any) -> dict[str, tuple[int | str, ...]]:
        return {OUTPUT: ("batch", "sequence")}


def _looks_ahead(network: Any) -> bool:
    """Whether what the model says at a token depends on the tokens behind it."""
    import torch

    with torch.no_grad():
        one, other = network.eval()(input_ids=torch.tensor([[1, 2, 3, 4], [1, 2, 5, 6]])).logits[:, 0]
    return not torch.allclose(one, other, rtol=1e-4, atol=1e-5)


KIND = CausalLMKind()
