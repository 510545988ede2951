"""A process that takes longer than torch's own patience ends no job."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from optkit.training.trainer.distributed import World

SCRIPT = """
import time
from contextlib import nullcontext
from datetime import timedelta
import torch.distributed
from optkit.training.trainer.distributed import World

torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=3))
world = World.current()
with WAITING:
    if world.is_first:
        time.sleep(8)
world.wait()
"""


@pytest.mark.parametrize(("waiting", "whole"), [("world.others_wait()", True), ("nullcontext()", False)])
def test_the_others_wait_for_the_first_one(waiting, whole, tmp_path):
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.replace("WAITING", waiting))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run([*start, str(script)], env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode == 0) is whole, done.stderr[-2000:]


def test_one_process_waits_for_nobody():
    with World().others_wait():
        pass
