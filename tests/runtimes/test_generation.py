"""Drawing tokens as transformers does; the loop of generation, with a decoder that notes what it sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.errors import DataError, RecipeError
from optkit.runtimes.base import Decoder
from optkit.runtimes.generation import Generation, generate, pick, probabilities


class Counting(Decoder):
    """The likeliest next token is one more than the last; every call is noted."""

    def __init__(self):
        self.tokens, self.masks = [], []

    def step(self, tokens, attention_mask):
        self.tokens.append(tokens)
        self.masks.append(attention_mask)
        return np.eye(50)[tokens[:, -1] + 1]


@given(
    st.integers(0, 1000),
    st.floats(0.2, 3),
    st.one_of(st.none(), st.integers(1, 40)),
    st.floats(0.05, 1),
)
def test_probabilities_are_those_of_transformers(seed, temperature, top_k, top_p):
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = np.random.default_rng(seed).normal(0, 3, 40)
    scores = TemperatureLogitsWarper(temperature)(None, torch.from_numpy(logits)[None])
    if top_k is not None:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    expected = torch.softmax(scores, -1)[0].numpy()
    found = probabilities(logits, Generation(1, temperature, top_k, top_p))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_tokens_are_drawn_as_often_as_their_probability_says():
    logits, settings = np.log([0.1, 0.6, 0.3]), Generation(temperature=1.0)
    random = np.random.default_rng(0)
    counts = np.bincount([pick(logits, settings, random) for _ in range(4000)], minlength=3)
    np.testing.assert_allclose(counts / 4000, [0.1, 0.6, 0.3], atol=0.03)
    assert pick(logits, Generation(), random) == 1


def test_prompts_are_padded_on_the_left_and_a_row_that_ended_takes_no_position():
    decoder = Counting()
    steps = list(generate(decoder, [[1, 2, 3], [7]], Generation(4), frozenset({5}), longest=9, pad=0))
    assert steps == [[4, 8], [5, 9], [None, 10], [None, 11]]
    assert decoder.tokens[0].tolist() == [[1, 2, 3], [0, 0, 7]]
    assert decoder.masks[0].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert decoder.masks[-1].tolist() == [[1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]]


def test_a_row_ends_where_the_model_has_no_more_positions():
    steps = list(generate(Counting(), [[1, 2, 3]], Generation(20), frozenset(), longest=5))
    assert steps == [[4], [5]]
    for prompt in ([], [1] * 5):
        with pytest.raises(DataError, match=f"1 to 4 tokens, received one of {len(prompt)} at position 2"):
            list(generate(Counting(), [prompt], Generation(), frozenset(), longest=5, first=2))


@pytest.mark.parametrize(
    "bad",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"seed": -1},
    ],
)
def test_settings_that_make_no_sense(bad):
    with pytest.raises(RecipeError, match=f"Expected {next(iter(bad))}"):
        Generation(**bad)
