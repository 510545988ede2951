"""What a process uses is not deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from optkit.compression.search.models import delete, in_use


def test_what_is_in_use_stays(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    with in_use(folder), in_use(folder):
        assert not delete(folder)
        assert folder.exists()
    assert delete(folder)
    assert not folder.exists()


def test_the_use_of_what_is_still_to_be_made(tmp_path):
    with in_use(tmp_path / "model"):
        (tmp_path / "model").mkdir()
        assert not delete(tmp_path / "model")


def test_a_killed_process_uses_nothing(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    script = (
        "import sys, time, pathlib; from optkit.compression.search.models import in_use\n"
        "with in_use(pathlib.Path(sys.argv[1])): print('in use', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in use\n"
        assert not delete(folder)
        os.kill(process.pid, signal.SIGKILL)
    assert delete(folder)
