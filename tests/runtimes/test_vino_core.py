"""What every OpenVINO model shares, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("openvino")

CODE = """
    import os
    import numpy as np, openvino, psutil
    from openvino import opset13 as ops
    from optkit.runtimes import vino_core

    vino_core.KERNELS = 10  # few, so that the limit is soon met
    given = ops.parameter([-1, -1, 64], np.float32)
    states, chance = given, np.random.default_rng(0)
    for _ in range(8):
        weights = ops.constant(chance.normal(size=(64, 64)).astype(np.float32))
        states = ops.tanh(ops.matmul(states, weights, False, True))
    model = openvino.Model([states], [given])
    compiled = vino_core.core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
    process, request = psutil.Process(), compiled.create_infer_request()

    def meet(lengths):
        before = process.memory_info().rss
        for n in lengths:
            request.infer([np.ones((n % 3 + 1, n, 64), np.float32)])
        return process.memory_info().rss - before

    print(meet(range(2, 42)), meet(range(42, 162)))
    assert "ONEDNN_PRIMITIVE_CACHE_CAPACITY" not in os.environ  # it is no business of a child process
"""


def test_ever_new_shapes_take_no_more_memory_once_there_were_some():
    """Without the limit, 120 shapes take four times what the first 40 did."""
    command = [sys.executable, "-c", textwrap.dedent(CODE)]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=True)
    first, later = map(int, done.stdout.split())
    assert later < first
