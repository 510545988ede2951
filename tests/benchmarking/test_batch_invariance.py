from __future__ import annotations

import numpy as np

from optkit.benchmarking.batch_invariance import TOGETHER, ask, best, compare
from optkit.data.examples import EncodedSet
from optkit.runtimes.fake import FakeSession


def encoded(count: int = 20) -> EncodedSet:
    rng = np.random.default_rng(1)
    rows = [rng.integers(5, 50, size=n) for n in rng.integers(2, 12, size=count)]
    return EncodedSet(
        {"input_ids": rows, "attention_mask": [np.ones_like(r) for r in rows]}, {"input_ids": 0}
    )


def answers(outputs):
    return np.stack(outputs["logits"]).argmax(axis=1)


class Batchwise(FakeSession):
    """The first label's logit is moved by up to `share`, up or down, by what else is in the batch."""

    share = 0.0

    def infer(self, feeds):
        logits = super().infer(feeds)["logits"].copy()
        ids = feeds["input_ids"]
        logits[:, 0] += self.share * np.sin(float(ids.sum() + 7 * ids.shape[1] + 3 * len(ids)))
        return {"logits": logits}


def test_an_answer_of_its_own_passes():
    found = compare(ask(FakeSession(), encoded()), answers)
    assert found.examples == 20
    assert (found.padded, found.batched, found.flipped) == (0.0, 0.0, 0)
    assert found.invariant


def test_an_answer_that_follows_its_batch_is_found():
    session = Batchwise()
    session.share = 1.0
    found = compare(ask(session, encoded()), answers).to_dict()
    assert found["padded"] > 0.1
    assert found["batched"] > 0.1
    assert found["largest_difference"] == max(found["padded"], found["batched"])
    assert 0 < found["flipped"] <= 20
    assert found["flipped_share"] == found["flipped"] / 20
    assert not found["invariant"]


def test_a_rounding_step_is_no_dependence():
    session = Batchwise()
    session.share = 1e-5
    found = compare(ask(session, encoded()), answers)
    assert 0 < found.padded < 0.01
    assert found.invariant


def test_every_example_is_asked_three_times_and_outputs_stay_in_order():
    asked = []

    class Listening(FakeSession):
        def infer(self, feeds):
            asked.append(feeds["input_ids"].shape)
            return super().infer(feeds)

    outputs = ask(Listening(), encoded(11), examples=10)
    longest = int(max(shape[1] for shape in asked))
    assert sum(shape[0] for shape in asked) == 30
    assert asked[10:20] == [(1, longest)] * 10
    assert max(shape[0] for shape in asked) == TOGETHER
    np.testing.assert_array_equal(outputs["alone"]["logits"], outputs["batched"]["logits"])


def test_values_per_token_are_cut_to_the_example():
    outputs = ask(FakeSession(per_token=True), encoded())
    for alone, padded in zip(outputs["alone"]["logits"], outputs["padded"]["logits"]):
        np.testing.assert_array_equal(alone, padded)


def test_one_value_per_token_is_cut_too_and_the_best_places_are_compared():
    class Ends(FakeSession):
        """As question answering gives them: one logit per token, which follows the token alone."""

        def infer(self, feeds):
            return {"start_logits": np.sin(feeds["input_ids"].astype(np.float32)) - (feeds["input_ids"] == 0)}

    outputs = ask(Ends(), encoded())
    assert [len(row) for row in outputs["padded"]["start_logits"]] == [
        len(row) for row in outputs["alone"]["start_logits"]
    ]
    found = compare(outputs, best)
    assert (found.padded, found.batched, found.flipped) == (0.0, 0.0, 0)
    outputs["batched"]["start_logits"][3] = np.roll(outputs["batched"]["start_logits"][3], 1)
    assert compare(outputs, best).flipped == 1
