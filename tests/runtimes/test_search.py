"""Texts searched for over ONNX graphs are, token for token, those of transformers' `generate`."""

import numpy as np
import pytest

from optkit import Artifact
from optkit.errors import CheckpointError
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import open_session
from optkit.runtimes.search import processed
from optkit.runtimes.search_settings import SearchSettings
from optkit.tasks.base import open_task
from tests.seq2seq import FAMILIES, checkpoint, lengths_of_same_texts


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_those_of_generate(family, tmp_path):
    """Greedy and with four beams: over the graphs of three families, and over torch's decoder for the others,
    whose graphs take as long again (`benchmarks/seq2seq.py families` tries them all)."""
    source = Artifact.open(checkpoint(family, tmp_path / "checkpoint"))
    task, made = open_task(source), source
    if family in ("T5", "BART", "Marian"):
        made = apply(make("export-onnx", {}), source, tmp_path / "onnx", make_context(task))
        notes = made.lineage[-1]["notes"]
        assert notes["max_difference"] < 1e-3
        assert notes["texts_equal"] + notes["texts_tied"] > 0
    with open_session(made) as session:
        lengths = {n for beams in (1, 4) for n in lengths_of_same_texts(session, source.path, beams)}
    assert len(lengths) > 1, "texts of one length prove nothing about their end"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("do_sample", True),
        ("num_beam_groups", 2),
        ("penalty_alpha", 0.6),
        ("stop_strings", ["."]),
        ("num_return_sequences", 2),
    ],
)
def test_what_is_not_followed_is_refused(setting, value):
    with pytest.raises(CheckpointError, match=setting):
        SearchSettings.of(
            {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, setting: value}, {}
        )


def test_lengths_are_those_that_transformers_takes():
    tokens = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    assert SearchSettings.of(tokens, {}).max_length == 21
    assert SearchSettings.of(tokens, {"max_position_embeddings": 16}).max_length == 16
    assert SearchSettings.of({**tokens, "max_new_tokens": 5, "max_length": 9}, {}).max_length == 6
    assert SearchSettings.of({**tokens, "min_new_tokens": 3}, {}).min_length == 4


def test_scores_are_processed_as_transformers_does():
    import torch
    from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList

    stated = {
        "decoder_start_token_id": 0,
        "eos_token_id": [1, 2],
        "pad_token_id": 0,
        "max_length": 7,
        "min_length": 4,
        "no_repeat_ngram_size": 2,
        "repetition_penalty": 1.5,
        "bad_words_ids": [[5], [6, 7], [1]],
        "forced_bos_token_id": 9,
        "forced_eos_token_id": [1, 2],
        "suppress_tokens": [8],
        "begin_suppress_tokens": [10],
        "renormalize_logits": True,
    }
    generation = GenerationConfig(**stated)
    generation._eos_token_tensor = torch.tensor([1, 2])

    class Model(GenerationMixin):
        config = type("Config", (), {"is_encoder_decoder": True})
        device = torch.device("cpu")

    rules = Model()._get_logits_processor(
        generation, 1, None, None, LogitsProcessorList(), device="cpu", model_kwargs={}
    )
    settings, random = SearchSettings.of(stated, {}), np.random.default_rng(0)
    for length in range(1, 7):
        for _ in range(20):
            written = random.integers(0, 12, (3, length))
            scores = random.normal(size=(3, 12)).astype(np.float32)
            expected = rules(torch.from_numpy(written), torch.from_numpy(scores.copy())).numpy()
            np.testing.assert_allclose(processed(written, scores, settings), expected, atol=1e-5)
