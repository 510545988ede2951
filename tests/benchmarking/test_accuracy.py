from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from optkit.benchmarking.accuracy import load_outputs, mcnemar, paired_drop, paired_drop_of, save_outputs
from optkit.errors import DataError, PassError
from optkit.runtimes.base import Session, TensorSpec, infer_all
from optkit.runtimes.fake import FakeSession
from tests.benchmarking.fakes import encoded_set

LENGTHS = [3, 9, 1, 5, 9, 2, 7]


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_infer_all_gives_what_each_example_gives_alone(per_token, batch_size):
    session, encoded = FakeSession(per_token=per_token), encoded_set(LENGTHS)
    outputs = infer_all(session, encoded, batch_size, max_tokens=20)["logits"]
    for i, length in enumerate(LENGTHS):
        alone = session.infer(encoded.batch([i]))["logits"][0]
        assert outputs[i].shape == ((length, 2) if per_token else (2,))
        np.testing.assert_array_equal(outputs[i], alone)


class TwoOutputs(Session):
    """Start logits (batch, tokens), and 9 labels: as many as the longest example has tokens."""

    inputs = (TensorSpec("input_ids", "int64", ("batch", "sequence")),)
    outputs = (
        TensorSpec("start", "float32", ("batch", "sequence")),
        TensorSpec("logits", "float32", ("batch", "labels")),
    )

    def infer(self, feeds):
        ids = feeds["input_ids"]
        return {"start": ids.astype(np.float32), "logits": np.ones((len(ids), 9), np.float32)}


def test_labels_as_many_as_tokens_are_not_cut():
    outputs = infer_all(TwoOutputs(), encoded_set(LENGTHS), 3, 4096)
    assert [len(x) for x in outputs["start"]] == LENGTHS
    assert [len(x) for x in outputs["logits"]] == [9] * len(LENGTHS)


def test_infer_all_of_no_examples():
    assert infer_all(FakeSession(), encoded_set([]), 4, 100) == {}


def test_ragged_outputs_come_back(tmp_path):
    outputs = {
        "tokens": [np.arange(6.0).reshape(3, 2), np.ones((1, 2))],
        "scalar": [np.float32(1.5).reshape(()), np.float32(2).reshape(())],
        "ids": [np.array([1, 2]), np.array([], dtype=np.int64)],
    }
    save_outputs(tmp_path / "x.npz", outputs)
    found = load_outputs(tmp_path / "x.npz")
    assert list(found) == list(outputs)
    for name, rows in outputs.items():
        assert len(found[name]) == len(rows)
        for a, b in zip(rows, found[name]):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, strict=True)


def test_no_rows_come_back(tmp_path):
    save_outputs(tmp_path / "x.npz", {"logits": []})
    assert load_outputs(tmp_path / "x.npz") == {"logits": []}


@given(
    st.lists(
        arrays.arrays(
            np.float32, arrays.array_shapes(max_dims=2, max_side=4), elements=st.floats(-9, 9, width=32)
        ).filter(lambda a: a.ndim == 2),
        max_size=5,
    )
)
@settings(max_examples=25)
def test_any_ragged_rows_come_back(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("outputs") / "x.npz"
    save_outputs(file, {"logits": rows})
    found = load_outputs(file)["logits"]
    assert len(found) == len(rows)
    assert all(np.array_equal(a, b) for a, b in zip(rows, found))


@pytest.mark.parametrize(("value", "said"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_outputs_that_are_no_numbers_are_refused(tmp_path, value, said):
    rows = [np.zeros(2), np.array([0.0, value])]
    with pytest.raises(PassError, match=rf"'logits', received {said}, first in example 1"):
        save_outputs(tmp_path / "x.npz", {"logits": rows})
    assert not (tmp_path / "x.npz").exists()


def outcomes(n: int, worse: int, better: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
    b[:worse], a[worse : worse + better] = False, False
    return a, b


def test_a_drop_of_right_or_wrong():
    a, b = outcomes(872, worse=30, better=10)
    found = paired_drop(a, b)
    assert found.drop == pytest.approx(20 / 872)
    assert found.n == 872
    assert found.p_value == pytest.approx(scipy.stats.binomtest(10, 40).pvalue)
    # Bonett and Price (2012): the adjusted Wald interval that the draws imitate.
    p, q = 31 / 874, 11 / 874
    half = 1.96 * np.sqrt((p + q - (p - q) ** 2) / 874)
    assert (found.low, found.high) == pytest.approx((p - q - half, p - q + half), abs=1.5e-3)


def test_no_flip_is_no_certainty():
    found = paired_drop(*outcomes(872, 0, 0))
    assert (found.drop, found.p_value) == (0.0, 1.0)
    assert 0.002 < found.high < 0.005
    assert found.low == pytest.approx(-found.high, abs=1e-3)


def test_fewer_examples_promise_less():
    few, many = paired_drop(*outcomes(100, 2, 1)), paired_drop(*outcomes(1000, 20, 10))
    assert few.high > many.high


def test_a_paired_drop_of_real_values_is_scipys():
    random = np.random.default_rng(3)
    a = random.normal(0.8, 0.1, 300)
    b = a - random.normal(0.02, 0.05, 300)
    found = paired_drop(a, b)
    expected = scipy.stats.bootstrap((a - b,), np.mean, method="percentile", rng=0).confidence_interval
    assert found.p_value is None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=5e-4)


def test_the_interval_covers_the_true_drop():
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        pairs = random.choice(3, size=200, p=[0.04, 0.02, 0.94])  # a true drop of 2 points
        found = paired_drop(pairs != 1, pairs != 0)
        hits += found.low <= 0.02 <= found.high
    assert hits >= 0.92 * 300


def test_the_same_question_gets_the_same_answer():
    a, b = outcomes(300, 9, 4)
    assert paired_drop(a, b) == paired_drop(a, b)


def test_a_drop_of_a_metric_that_is_no_mean():
    random = np.random.default_rng(0)
    truth = random.normal(size=200)
    a, b = truth + random.normal(0, 0.3, 200), truth + random.normal(0, 0.6, 200)
    score = lambda answers, references: float(np.corrcoef(answers, references)[0, 1])  # noqa: E731
    found = paired_drop_of(score, a, b, truth)
    assert found.drop == pytest.approx(score(a, truth) - score(b, truth))
    assert 0 < found.low < found.drop < found.high
    assert found.p_value is None


def test_such_a_metric_may_take_lists():
    truth = [{"Paris"}, {"Rome"}, {"Bern"}] * 10
    a, b = list(truth), [*truth[:-1], {"Basel"}]
    score = lambda answers, references: sum(x == y for x, y in zip(answers, references)) / len(answers)  # noqa: E731
    found = paired_drop_of(score, a, b, truth)
    assert found.drop == pytest.approx(1 / 30)
    assert found.low <= found.drop <= found.high


def test_a_metric_that_is_undefined_on_some_resamples():
    truth = np.array([0.0, 1.0])
    score = lambda answers, references: float("nan") if len(set(answers)) < 2 else 1.0  # noqa: E731
    found = paired_drop_of(score, truth, truth, truth)
    assert (found.low, found.high) == (0.0, 0.0)


@pytest.mark.parametrize(("a", "b"), [(np.ones(3), np.ones(4)), (np.ones(0), np.ones(0))])
def test_unpaired_outcomes_are_refused(a, b):
    with pytest.raises(DataError, match="same examples"):
        paired_drop(a, b)


@given(worse=st.integers(0, 60), better=st.integers(0, 60))
@settings(max_examples=50)
def test_mcnemar_is_scipys_binomial_test(worse, better):
    expected = scipy.stats.binomtest(worse, worse + better).pvalue if worse + better else 1.0
    assert mcnemar(worse, better) == pytest.approx(expected)
