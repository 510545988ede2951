"""FSDP2 over two CPU processes: what comes out is a whole network, in the first process alone."""

from __future__ import annotations

import shutil

import numpy as np
from safetensors.numpy import load_file

from tests.forks import two_ranks


def test_whole_weights_come_out_of_a_sharded_network(checkpoint, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    (code, stdout, stderr), other = two_ranks("-m", "tests.training.trainer.sharded_job", str(folder))
    assert (code, other[0]) == (0, 0), stderr[-2000:] + other[2][-2000:]
    assert (stdout + other[1]).split() == ["whole"]
    before, after = load_file(folder / "model.safetensors"), load_file(folder / "made" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(before[name].shape == after[name].shape and np.isfinite(after[name]).all() for name in before)
