from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.benchmarking.batches import ALL_EXAMPLES, arrivals, everything, padding_share, parts_of, shuffled


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 70))
def test_everything_holds_each_example_once_longest_first(lengths, batch):
    parts = everything(np.array(lengths), batch)
    together = np.concatenate(parts)
    assert sorted(together) == list(range(len(lengths)))
    assert (np.diff(np.array(lengths)[together]) <= 0).all()
    assert {len(part) for part in parts[:-1]} <= {batch}


def test_a_large_data_set_is_stood_for_by_even_quantiles():
    lengths = np.arange(10 * ALL_EXAMPLES)
    together = np.concatenate(everything(lengths, 32))
    assert len(together) == ALL_EXAMPLES
    assert np.percentile(lengths[together], (10, 50, 90)) == pytest.approx(
        np.percentile(lengths, (10, 50, 90)), rel=0.01
    )


@given(st.lists(st.integers(1, 500), min_size=1, max_size=200), st.integers(1, 40))
def test_padding_is_what_the_masks_of_the_batches_say(lengths, batch):
    from optkit.data.examples import EncodedSet

    encoded = EncodedSet({"attention_mask": [np.ones(n, np.int64) for n in lengths]}, {})
    parts = parts_of("all", encoded.lengths, 1, offline_batch=batch)
    masks = [encoded.batch(part)["attention_mask"].ravel() for part in parts]
    assert padding_share(encoded.lengths, parts) == pytest.approx(1 - np.concatenate(masks).mean())


def test_one_text_at_a_time_has_no_padding():
    lengths = np.arange(1, 100)
    assert padding_share(lengths, parts_of("data", lengths, 1)) == 0.0


def test_shuffled_queries_are_the_same_every_time():
    assert all((a == b).all() for a, b in zip(shuffled(10, 8), shuffled(10, 8)))
    assert len({tuple(q) for q in shuffled(1000, 8)}) == len(shuffled(1000, 8))


@given(st.floats(0.5, 2000), st.floats(0.01, 5), st.integers(0, 100))
def test_arrivals_lie_in_time_and_in_order(rate, seconds, seed):
    times, which = arrivals(rate, seconds, 7, seed)
    assert len(times) == len(which)
    assert ((times > 0) & (times < seconds)).all()
    assert (np.diff(times) >= 0).all()
    assert ((which >= 0) & (which < 7)).all()


def test_arrivals_are_a_poisson_process():
    from scipy.stats import kstest

    times, _ = arrivals(100.0, 500.0, 3, seed=0)
    assert len(times) == pytest.approx(100 * 500, rel=0.02)
    assert kstest(np.diff(times), "expon", args=(0, 0.01)).pvalue > 0.01
    counts = np.histogram(times, bins=500, range=(0, 500))[0]
    assert counts.var() == pytest.approx(100, rel=0.2)  # of a Poisson count, the mean
