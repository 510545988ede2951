"""Lengths rounded up: what the engine sees, and what comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.runtimes.base import Session, TensorSpec
from optkit.runtimes.bucketed import Bucketed


class Echo(Session):
    """Gives every token back, and what it saw."""

    inputs = (TensorSpec("input_ids", "int64", ("batch", "sequence")),)
    outputs = (
        TensorSpec("tokens", "float32", ("batch", "sequence", 1)),
        TensorSpec("logits", "float32", ("batch", 2)),
    )

    def infer(self, feeds):
        self.seen = {name: value.shape for name, value in feeds.items()}
        self.mask = feeds.get("attention_mask")
        ids = feeds["input_ids"]
        return {"tokens": ids[..., None].astype(np.float32), "logits": np.ones((len(ids), 2), np.float32)}


@given(st.integers(1, 3), st.integers(1, 40), st.integers(2, 16))
def test_the_engine_sees_multiples_and_the_caller_its_own_length(batch, tokens, step):
    inner = Echo()
    ids = np.arange(1, batch * tokens + 1).reshape(batch, tokens)
    found = Bucketed(inner, step).infer({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    long = inner.seen["input_ids"][1]
    assert long % step == 0
    assert tokens <= long < tokens + step
    assert inner.mask.sum() == batch * tokens  # what is added is hidden
    np.testing.assert_array_equal(found["tokens"][..., 0], ids)
    assert found["logits"].shape == (batch, 2)


@pytest.mark.parametrize(("tokens", "seen"), [(9, 14), (14, 14), (15, 15)])
def test_no_bucket_is_longer_than_the_model(tokens, seen):
    inner = Echo()
    ids = np.ones((1, tokens), dtype=np.int64)
    Bucketed(inner, 16, longest=14).infer({"input_ids": ids, "attention_mask": ids})
    assert inner.seen["input_ids"] == (1, seen)


def test_inputs_without_a_mask_pass_as_they_are():
    inner = Echo()
    Bucketed(inner, 8).infer({"input_ids": np.ones((1, 3), dtype=np.int64)})
    assert inner.seen["input_ids"] == (1, 3)
