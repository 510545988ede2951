"""The command before its command line is there."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

CODE = """
import os, signal, sys, time
from optkit.__main__ import main

class InterruptsImport:
    def find_spec(self, name, path, target=None):
        if name == "optkit.cli":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(20)

signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests are started
sys.meta_path.insert(0, InterruptsImport())
main()
"""


def test_ctrl_c_while_python_imports_is_one_line():
    command = [sys.executable, "-c", textwrap.dedent(CODE)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: Interrupted.\n")
