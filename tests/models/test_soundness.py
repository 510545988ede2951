from __future__ import annotations

import pytest

from optkit.errors import CheckpointError
from optkit.models.checkpoint import load_model


@pytest.mark.parametrize("padding", [None, 0])
def test_a_decoder_that_cannot_tell_padding_is_refused_with_what_to_set(padding, make_checkpoint):
    """transformers itself answers such a model one text at a time only."""
    sizes = {"n_embd": 32, "n_head": 2, "n_layer": 2, "n_positions": 64, "bos_token_id": 2, "eos_token_id": 3}
    folder = make_checkpoint("gpt2", **sizes, pad_token_id=padding)
    if padding is None:
        with pytest.raises(CheckpointError, match="one text at a time") as refused:
            load_model(folder)
        assert "pad_token_id" in refused.value.hint
    else:
        assert load_model(folder).config.pad_token_id == 0
