"""Every row once per epoch, in the same steps for any number of processes."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pytest

from optkit.training.trainer.batches import FILL, Rows, grouped, mass, places, shared


@pytest.mark.parametrize(("count", "share", "size"), [(19, 16, 2), (7, 8, 2), (40, 8, 2), (5, 4, 3)])
def test_every_process_has_a_part_of_every_step_and_each_row_is_there_once(count, share, size):
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler

    rows, whole = Rows(list(range(1, count + 1))), share * size
    alone = grouped(rows, whole, 1, seed=3)
    alone.set_epoch(2)
    together = grouped(rows, whole, whole, seed=3)
    together.set_epoch(2)
    batches = BatchSampler(together, share, drop_last=False)
    shards = [list(BatchSamplerShard(batches, size, rank)) for rank in range(size)]
    assert len({len(shard) for shard in shards}) == 1
    steps = [[p for shard in step for p in places([rows[i] for i in shard])] for step in zip(*shards)]
    assert steps == list(BatchSampler(alone, whole, drop_last=False))
    assert sorted(place for step in steps for place in step) == list(range(count))


def test_what_lies_behind_the_last_row_is_none():
    rows = Rows([3, 4], split=1)
    assert len(rows) == 2
    assert rows[1] == {"split": 1, "index": 1}
    assert rows[2]["index"] == FILL
    assert places([rows[2], rows[3]]) == []


def test_the_mass_is_what_a_mean_divides_by():
    torch = pytest.importorskip("torch")
    labels, weights = np.array([[0, 2, -100], [1, -100, -100]]), np.array([0.5, 1.0, 4.0])
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    each, whole = (
        torch.nn.functional.cross_entropy(
            logits, torch.tensor(labels).reshape(-1), torch.tensor(weights).float(), reduction=kind
        )
        for kind in ("sum", "mean")
    )
    assert float(each / whole) == pytest.approx(mass(2, labels, weights)) == 5.5
    assert mass(2, labels) == 3
    assert mass(2, np.array([0.5, 1.0])) == mass(2) == 2


def test_a_part_of_nothing_has_no_gradient():
    torch = pytest.importorskip("torch")
    logits = torch.ones(2, 3, requires_grad=True)
    mean = torch.nn.functional.cross_entropy(logits, torch.tensor([-100, -100]))
    shared(mean, {"loss": mean, "logits": logits}, None).backward()
    assert not mean.isfinite()
    assert logits.grad.tolist() == [[0.0] * 3] * 2


def test_one_process_takes_one_gpu(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    from optkit.training.trainer.distributed import World
    from optkit.training.trainer.settings import FinetuneSettings
    from optkit.training.trainer.setup import arguments

    @cached_property
    def two(self):
        self._n_gpu = 2
        return "cuda:0"

    two.__set_name__(transformers.TrainingArguments, "_setup_devices")
    monkeypatch.setattr(transformers.TrainingArguments, "_setup_devices", two)
    made = arguments(FinetuneSettings(batch=32), tmp_path, World())
    assert (made.n_gpu, made.train_batch_size) == (1, 32)
