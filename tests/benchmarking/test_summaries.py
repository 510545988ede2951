"""What a report says of samples."""

from __future__ import annotations

import pytest

from optkit.benchmarking.batches import data_batches
from optkit.benchmarking.plan import Shape
from optkit.benchmarking.summaries import latencies
from optkit.benchmarking.timed_process import Measured
from tests.benchmarking.fakes import encoded_set


@pytest.mark.parametrize("kind", ["data", "text"])
@pytest.mark.parametrize("batch", [1, 8, 20, 48, 64, 300])
@pytest.mark.parametrize("count", [5, 30, 200])
def test_examples_per_second_count_the_examples_that_were_answered(kind, batch, count):
    encoded, shape = encoded_set(range(1, count + 1)), Shape(batch, kind)
    visit = [float(len(part)) for part in data_batches(encoded.lengths, batch)]  # 1 ms each: 1,000 per second
    measured = Measured("x", {shape: [[visit] * 3]})
    assert latencies(measured, None, encoded)[0].per_second == pytest.approx(1000, abs=0.01)


def test_a_batch_larger_than_the_usual_pass_is_filled():
    assert [len(part) for part in data_batches(encoded_set([3] * 200).lengths, 64)] == [64, 64]
