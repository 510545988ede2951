from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from optkit.data.examples import EncodedSet, Windows

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def encoded(lengths: list[int]) -> EncodedSet:
    rows = [np.arange(1, n + 1, dtype=np.int64) + 100 * i for i, n in enumerate(lengths)]
    return EncodedSet(
        {"input_ids": rows, "attention_mask": [np.ones_like(r) for r in rows]}, {"input_ids": 7}
    )


@given(LENGTHS, st.integers(1, 16), st.integers(1, 200))
def test_batches_hold_every_example_once_within_the_budget(lengths, size, budget):
    batches = list(encoded(lengths).batches(size, budget))
    assert sorted(int(i) for b in batches for i in b) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or (len(batch) <= size and len(batch) * longest <= budget)


@given(LENGTHS)
def test_padding_is_marked_and_has_the_pad_value(lengths):
    batch = encoded(lengths).batch(range(len(lengths)))
    for i, n in enumerate(lengths):
        assert batch["attention_mask"][i].sum() == n
        assert (batch["input_ids"][i, n:] == 7).all()


@given(LENGTHS, st.integers(1, 5), st.integers(1, 90))
def test_a_fixed_shape_has_no_padding(lengths, batch, tokens):
    feeds = encoded(lengths).of_shape(batch, tokens)
    assert feeds["input_ids"].shape == (batch, tokens)
    assert feeds["attention_mask"].all()


def test_saving_and_loading_gives_the_same(tmp_path):
    before = encoded([3, 1, 5])
    before.save(tmp_path / "x.npz")
    after = EncodedSet.load(tmp_path / "x.npz")
    assert after.pad["input_ids"] == 7
    for name, rows in before.arrays.items():
        for a, b in zip(rows, after.arrays[name]):
            np.testing.assert_array_equal(a, b)


def test_images_keep_their_size():
    images = EncodedSet({"pixel_values": [np.zeros((3, 8, 8), np.float32)] * 2}, {})
    assert images.of_shape(4, 128)["pixel_values"].shape == (4, 3, 8, 8)


def test_images_of_one_size_alone_share_a_batch_and_are_stored_as_they_are(tmp_path):
    sizes = [(3, 8, 8), (3, 6, 9), (3, 8, 8), (3, 8, 8), (3, 6, 9)]
    rows = [np.full(size, i, dtype=np.float32) for i, size in enumerate(sizes)]
    images = EncodedSet({"pixel_values": rows}, {})
    assert [batch.tolist() for batch in images.batches(2)] == [[0, 2], [3], [1, 4]]
    large = EncodedSet({"pixel_values": [np.zeros((3, 1500, 1500), np.float32)] * 4}, {})
    assert [len(batch) for batch in large.batches(32)] == [2, 2]
    assert images.of_shape(4, 0)["pixel_values"][:, 0, 0, 0].tolist() == [0, 2, 3, 0]
    padded = images.batch([0, 1])["pixel_values"]
    assert padded.shape == (2, 3, 8, 9)
    assert (padded[1, :, 6:] == 0).all()
    assert (padded[1, :, :6] == 1).all()
    images.save(tmp_path / "x.npz")
    after = EncodedSet.load(tmp_path / "x.npz").arrays["pixel_values"]
    assert all(np.array_equal(a, b) for a, b in zip(rows, after, strict=True))


def test_the_first_examples_come_with_all_of_their_windows():
    rows = [np.array([i, i]) for i in range(5)]
    windows = Windows(np.array([0, 0, 1, 2, 2]), [np.array([0])] * 5, {"tokens": rows[:3]})
    whole = EncodedSet({"input_ids": rows}, {"input_ids": 9}, 1, windows)
    for count, expected in ((1, 2), (2, 3), (3, 5), (7, 5)):
        some = whole.first(count)
        assert len(some) == expected
        assert some.pad == whole.pad
        gathered = some.windows.gather({"x": some.arrays["input_ids"]})
        all_of_them = windows.gather({"x": rows})
        for name, values in gathered.items():
            assert len(values) == min(count, 3)
            for ours, theirs in zip(values, all_of_them[name]):
                np.testing.assert_array_equal(ours, theirs)
    assert len(EncodedSet({"input_ids": rows}, {}).first(2)) == 2
