"""The public `finetune`: a process of its own, typed scores, events."""

from __future__ import annotations

import optkit
from optkit.events import Scored


def test_training_gives_typed_scores_and_says_them_on_the_way(checkpoint, learnable, tmp_path):
    heard = []
    trained = optkit.finetune(checkpoint, learnable, tmp_path / "out", epochs=1, events=heard.append)
    assert trained == optkit.Trained.read(tmp_path / "out")
    assert [epoch.score for epoch in trained.history] == [e.score for e in heard if isinstance(e, Scored)]
    assert trained.score == trained.history[0].score
    assert 0 <= trained.score <= 1
