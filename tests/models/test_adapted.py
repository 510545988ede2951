"""Classifiers by the end of a text (BART, T5): each text's own end, whatever else is in its batch."""

from __future__ import annotations

import numpy as np
import pytest

from optkit.models.checkpoint import fetch, load_model
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import open_session
from optkit.tasks.base import open_task

END = 3
SETTINGS = {
    "bart": {
        **dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads"), 2),
        **{"decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "d_model": 32},
        **{"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": END, "decoder_start_token_id": END},
    },
    "t5": {
        **{"d_model": 32, "d_kv": 16, "num_layers": 2, "num_heads": 2, "d_ff": 64},
        **{"pad_token_id": 0, "eos_token_id": END, "decoder_start_token_id": 0},
    },
}
#: As a user writes "</s>" into a text: two ends and four, so that three for each would seem right.
TEXTS = ([2, 9, END, 10, 11, END], [2, END, 9, END, 12, END, 7, END])


@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_the_end_of_a_text_is_looked_for_in_it_alone(kind, make_checkpoint, tmp_path):
    import torch
    import transformers

    folder = make_checkpoint(kind, **SETTINGS[kind])
    library = transformers.AutoModelForSequenceClassification.from_pretrained(str(folder)).eval()
    with torch.inference_mode():
        alone = [library(input_ids=torch.tensor([ids])).logits[0].numpy() for ids in TEXTS]
    longest = max(map(len, TEXTS))
    feeds = {
        "input_ids": np.array([ids + [0] * (longest - len(ids)) for ids in TEXTS]),
        "attention_mask": np.array([[1] * len(ids) + [0] * (longest - len(ids)) for ids in TEXTS]),
    }
    source = fetch(folder)
    graph = apply(make("export-onnx", {}), source, tmp_path / "onnx", make_context(open_task(source)))
    for one in (source, graph):
        with open_session(one) as session:
            np.testing.assert_allclose(session.infer(feeds)["logits"], alone, atol=1e-4)
    assert type(load_model(source)) is not type(library)
    assert type(load_model(source)).__name__ == type(library).__name__
