from __future__ import annotations

import numpy as np
import pytest

from optkit.benchmarking.fidelity import compare, distances, interval


@pytest.mark.parametrize(("equal", "count"), [(100, 100), (97, 100), (0, 10), (5, 5)])
def test_the_lower_end_is_the_exact_one(equal, count):
    """At the low end as many equal answers or more come in 2.5% of draws; of (count, count) it is known."""
    low, high = interval(equal, count)
    assert 0 <= low <= equal / count <= high <= 1
    if equal == count:
        assert low == pytest.approx(0.025 ** (1 / count))


def test_no_texts_show_nothing():
    assert interval(0, 0) == (0.0, 1.0)


def test_figures_are_told_by_length():
    same = np.array([True, False, True, True])
    found = compare(same, np.array([0.1, 0.4, 0.2, 0.3]), np.array([3, 8, 9, 300]))
    assert (found["texts"], found["equal"], found["agreement"]) == (4, 3, 0.75)
    assert found["largest_distance"] == 0.4
    assert found["mean_distance"] == pytest.approx(0.25)
    assert found["furthest"] == 1
    assert [(x["tokens"], x["equal"], x["texts"]) for x in found["buckets"]] == [
        ("1–8", 1, 2),
        ("9–32", 1, 1),
        ("129–300", 1, 1),
    ]


def test_the_distance_is_the_largest_of_an_example_and_whole_numbers_are_left_out():
    before = {"logits": [np.zeros(2), np.zeros(3)], "offsets": [np.array([0]), np.array([1])]}
    after = {"logits": [np.array([0.1, -0.5]), np.zeros(2)], "offsets": [np.array([9]), np.array([9])]}
    assert distances(before, after).tolist() == [0.5, np.inf]
    nothing = {"logits": [np.array([np.nan, 1.0]), np.zeros(3)], "offsets": before["offsets"]}
    assert np.isnan(distances(before, nothing)[0])
