"""FSDP2 over two CPU processes: what comes out is a whole network, in the first process alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
from safetensors.numpy import load_file


def test_whole_weights_come_out_of_a_sharded_network(checkpoint, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    command = [sys.executable, *start, "-m", "tests.training.trainer.sharded_job", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["whole"]
    before, after = load_file(folder / "model.safetensors"), load_file(folder / "made" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(before[name].shape == after[name].shape and np.isfinite(after[name]).all() for name in before)
