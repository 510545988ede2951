"""A causal language model in OpenVINO, which keeps its cache as a state between steps."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.errors import CheckpointError
from optkit.runtimes import kv_cache
from optkit.runtimes.base import Decoder, Feeds

if TYPE_CHECKING:
    import openvino

#: Which row of the state each row goes on from.
BEAMS = "beam_idx"
#: Inputs that no caller gives.
IMPLIED = (BEAMS, kv_cache.POSITIONS, kv_cache.KEEP)


def is_stateful(model: openvino.Model) -> bool:
    return any(port.get_any_name() == BEAMS for port in model.inputs)


def keep_places(model: openvino.Model) -> None:
    """Give `model` an input that says of which tokens logits are wanted: a prompt needs those of its last.

    What is left out lies before the last product, that with the vocabulary; all behind it is per token.
    """
    from openvino import opset13 as ops

    node = model.outputs[0].get_node()
    while node.get_type_name() != "MatMul":
        if not node.inputs():
            raise CheckpointError("Expected logits that come of a product, received none.")
        node = node.input_value(0).get_node()
    keep = ops.parameter([-1], np.int64, name=kv_cache.KEEP)
    keep.output(0).get_tensor().set_names({kv_cache.KEEP})
    chosen = ops.gather(node.input_value(0), keep.output(0), ops.constant(1, np.int64))
    node.input(0).replace_source_output(chosen.output(0))
    model.add_parameters([keep])
    model.validate_nodes_and_infer_types()


def feeds(batch: Mapping[str, np.ndarray], keep: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """What the model is given for the tokens of `batch`: input_ids, and attention_mask over all so far."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    return {
        "input_ids": ids,
        "attention_mask": mask,
        kv_cache.POSITIONS: kv_cache.positions(mask, ids.shape[1]),
        kv_cache.KEEP: np.arange(ids.shape[1]) if keep is None else keep,
        BEAMS: np.arange(len(ids), dtype=np.int32),
    }


class StatefulDecoder(Decoder):
    """One request, whose state is that of the batch; it goes back to `idle` with the decoder."""

    def __init__(self, request: openvino.InferRequest, idle: queue.SimpleQueue[Any]) -> None:
        self._request, self._idle = request, idle
        request.reset_state()

    def step(self, tokens: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        given = {"input_ids": tokens, "attention_mask": attention_mask}
        last = np.array([tokens.shape[1] - 1])
        return run(self._request, feeds(given, last))[:, -1].astype(np.float32, copy=False)

    def logits(self, batch: Mapping[str, np.ndarray], keep: np.ndarray | None) -> np.ndarray:
        """(batch, tokens, vocabulary) of whole texts; of the places `keep` alone where it is given."""
        return run(self._request, feeds(batch, keep))

    def __del__(self) -> None:
        self._idle.put(self._request)


def run(request: openvino.InferRequest, given: Feeds) -> np.ndarray:
    """The logits. Raises CheckpointError."""
    try:
        logits: np.ndarray = request.infer(given, share_inputs=True, share_outputs=False)[0]
    except Exception as reason:
        raise CheckpointError(
            f"OpenVINO cannot answer with this model: {str(reason).strip().splitlines()[-1][:300]}",
            hint="The tokenizer and the graph do not fit each other, or memory is short.",
        ) from reason
    return logits
