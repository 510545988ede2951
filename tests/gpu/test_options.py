"""GPU options of the other runtimes, and what a machine without a GPU answers."""

from __future__ import annotations

import subprocess
import types

import numpy as np
import pytest

from optkit.errors import MissingDependency, OptkitError
from optkit.models.checkpoint import fetch
from optkit.runtimes.base import open_session
from optkit.runtimes.cuda.state import FIELDS, read_state


def test_torch_takes_half_precision_and_gives_fp32(checkpoint):
    ones = np.ones((2, 5), dtype=np.int64)
    source = fetch(checkpoint)
    with open_session(source) as a, open_session(source, dtype="bf16", attention="sdpa") as b:
        feeds = {s.name: ones for s in a.inputs}
        before, after = a.infer(feeds)["logits"], b.infer(feeds)["logits"]
        b.synchronize()
    assert after.dtype == np.float32
    assert (before != after).any()
    np.testing.assert_allclose(after, before, atol=0.05 * np.abs(before).max())


def test_torch_without_a_gpu_says_so(checkpoint, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(OptkitError, match="Expected a GPU"):
        open_session(fetch(checkpoint), device="cuda")


def test_torch_names_the_nearest_option(checkpoint):
    with pytest.raises(OptkitError, match="dtype"):
        open_session(fetch(checkpoint), dtype="fp8")


def test_onnx_runtime_without_cuda_names_the_extra(plain, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingDependency) as raised:
        open_session(plain, provider="cuda")
    assert "optkit[gpu]" in raised.value.hint


def test_the_state_of_a_gpu_is_read():
    done = types.SimpleNamespace(stdout="1980, 3201, 1980, 312.5, 700.0, 1024, 41, [N/A]\n")
    seen = []
    state = read_state(run=lambda command, **_: seen.append(command) or done)
    assert (state["sm_mhz"], state["power_w"], state["utilization_percent"]) == (1980.0, 312.5, None)
    assert not any(flag in seen[0] for flag in ("-lgc", "-pl", "--lock-gpu-clocks", "--power-limit"))


@pytest.mark.parametrize("problem", [FileNotFoundError(), subprocess.CalledProcessError(9, "nvidia-smi")])
def test_without_nvidia_smi_all_is_none(problem):
    def run(*_, **__):
        raise problem

    assert read_state(run=run) == dict.fromkeys(FIELDS.values())
