"""A process that takes longer than torch's own patience ends no job."""

from __future__ import annotations

import pytest

from optkit.training.trainer.distributed import World
from tests.forks import two_ranks

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
    codes = [code for code, *_ in two_ranks(str(script))]
    assert (codes == [0, 0]) is whole, codes


def test_one_process_waits_for_nobody():
    with World().others_wait():
        pass
