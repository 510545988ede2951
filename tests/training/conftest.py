"""Data that a tiny model learns."""

from __future__ import annotations

import pytest

from optkit.events import Progress
from optkit.training.finetune import finetune
from tests.conftest import sentences, write_jsonl


@pytest.fixture(scope="session")
def learnable(tmp_path_factory):
    """Sentences whose label follows from their first word: good or bad."""
    folder = tmp_path_factory.mktemp("learnable")
    for split, count in (("train", 160), ("validation", 40)):
        write_jsonl(folder / f"{split}.jsonl", learnable_sentences(count))
    return folder


def learnable_sentences(count: int) -> list[dict]:
    rows = sentences(count, seed=count)
    for row in rows:
        plain = [w for w in row["text"].split() if w not in ("good", "bad")][:6]
        row["text"] = " ".join(["good" if row["label"] == "positive" else "bad", *plain])
    return rows


def interrupted(*arguments, after: float, before_it_ends=lambda: None, **settings) -> None:
    """Fine-tune until more than `after` of the steps are done, then as Ctrl-C ends it."""

    def stop(event):
        if isinstance(event, Progress) and event.fraction and event.fraction > after:
            before_it_ends()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(*arguments, events=stop, **settings)
