from __future__ import annotations

import numpy as np
import pytest

from optkit.benchmarking.generation import measure
from optkit.errors import OptkitError
from optkit.runtimes.base import Decoder


class Model:
    """Reading a prompt takes 0.5 s on a clock that only this model moves, a token after it 0.1 s."""

    def __init__(self):
        self.now = 0.0

    def decoder(self):
        model = self

        class Steps(Decoder):
            def step(self, tokens, attention_mask):
                model.now += 0.5 if tokens.shape[1] > 1 else 0.1
                return np.zeros((len(tokens), 7))

        return Steps()


def test_the_prompt_and_the_tokens_behind_it_are_told_apart():
    model = Model()
    found = measure(model, [[1, 2, 3], [4]], 11, clock=lambda: model.now)
    assert found.first_ms == pytest.approx(500)
    assert found.per_second == pytest.approx(2 / 0.1)


def test_one_token_has_no_rate():
    with pytest.raises(OptkitError, match="at least 2 tokens"):
        measure(Model(), [[1, 2]], 1)
