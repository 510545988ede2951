from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.core.artifact import Artifact
from optkit.errors import OptkitError
from optkit.runtimes.base import open_session
from optkit.runtimes.fake import FakeSession, ManualClock
from tests.benchmarking.fakes import write_artifact

pytestmark = pytest.mark.usefixtures("fake_runtime")


def feeds(*rows: list[int], width: int | None = None) -> dict[str, np.ndarray]:
    width = width or max(map(len, rows))
    ids = np.array([[*row, *[0] * (width - len(row))] for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": np.array([[i < len(r) for i in range(width)] for r in rows]) * 1,
    }


def test_every_runtime_may_be_told_the_task(tmp_path):
    with open_session(
        Artifact.open(write_artifact(tmp_path / "model")), "fake", task="embeddings"
    ) as session:
        assert session.infer(feeds([1, 2]))["logits"].shape == (1, 2)


def test_any_artifact_opens(tmp_path):
    with open_session(Artifact.open(write_artifact(tmp_path / "model")), "fake", labels=5) as session:
        assert session.infer(feeds([1, 2, 3]))["logits"].shape == (1, 5)
        assert [spec.name for spec in session.outputs] == ["logits"]


@given(
    st.lists(st.lists(st.integers(1, 10**6), min_size=1, max_size=8), min_size=1, max_size=5),
    st.integers(8, 12),
)
def test_padding_and_company_do_not_change_an_answer(rows, width):
    together = FakeSession(labels=3).infer(feeds(*rows, width=width))["logits"]
    alone = [FakeSession(labels=3).infer(feeds(row))["logits"][0] for row in rows]
    np.testing.assert_array_equal(together, alone)
    assert together.dtype == np.float32
    assert np.abs(together).max() <= 1


def test_answers_differ_between_texts_and_orders():
    logits = FakeSession().infer(feeds([1, 2, 3], [3, 2, 1], [1, 2, 4]))["logits"]
    assert len({tuple(row) for row in logits.tolist()}) == 3


def test_an_output_per_token():
    session = FakeSession(labels=4, per_token=True)
    assert session.infer(feeds([1, 2, 3], [4]))["logits"].shape == (2, 3, 4)
    assert session.outputs[0].shape == ("batch", "sequence", 4)


def test_a_call_takes_its_time_on_the_clock():
    clock = ManualClock()
    FakeSession(delay_ms=2, delay_ms_per_token=0.5, clock=clock).infer(feeds([1, 2, 3], [4]))
    assert clock() == pytest.approx(0.005)


def test_a_missing_input_is_named():
    with pytest.raises(OptkitError, match="attention_mask"):
        FakeSession().infer({"input_ids": np.ones((1, 2), dtype=int)})


def test_flaws():
    assert np.isnan(FakeSession(flaw="nan").infer(feeds([1]))["logits"]).all()
    with pytest.raises(OptkitError, match="asked to fail"):
        FakeSession(flaw="error").infer(feeds([1]))
    with pytest.raises(MemoryError):
        FakeSession(flaw="memory").infer(feeds([1]))
    with pytest.raises(OptkitError, match="'crush'") as error:
        FakeSession(flaw="crush")
    assert error.value.hint == "Did you mean 'crash'?"


def test_closing_ends_the_spinning_thread_and_may_be_repeated():
    session = FakeSession(spin=True)
    session.close()
    session.close()
