"""The logic of benchmarks/gpu.py, without a GPU."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from optkit.cuda.probe import Gpu
from optkit.errors import OptkitError

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"
H200 = Gpu("NVIDIA H200", "9.0", 141 * 2**30, "13.1", "580.65.06")


@pytest.fixture(scope="module")
def gpu():
    import sys

    spec = importlib.util.spec_from_file_location("benchmark_gpu", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_gpu"] = module
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_says_so_and_writes_nothing(gpu, monkeypatch, capsys, tmp_path):
    def none():
        raise OptkitError("Expected an NVIDIA driver.")

    monkeypatch.setattr(gpu, "probe", none)
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    assert gpu.main() == 77
    assert "no GPU: Expected an NVIDIA driver." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_cannot_run_is_skipped_with_its_reason(gpu):
    fp8 = next(v for v in gpu.VARIANTS if v.dtype == "fp8")
    old = Gpu("NVIDIA A100", "8.0", 0, "12.9", None)
    assert gpu.reason_to_skip(fp8, H200, lambda m: False, 60) == "not installed: torchao"
    assert "8.9" in gpu.reason_to_skip(fp8, old, lambda m: True, 60)
    assert "8 minutes" in gpu.reason_to_skip(fp8, H200, lambda m: True, 0)
    assert gpu.reason_to_skip(fp8, H200, lambda m: True, 60) is None


def test_operations_of_bert_base(gpu):
    """About 22.4 billion for 128 tokens: twice 85 million encoder weights per token, and attention."""
    assert gpu.flops(gpu.SIZES["bert-base"], 1, 128) == pytest.approx(22.35e9, rel=0.01)


def test_the_bound_is_memory_at_batch_1_and_compute_at_128(gpu):
    peaks = {"fp16_flops": 800e12, "copy_bytes": 4e12}
    size = gpu.SIZES["bert-base"]
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072) * 2
    assert gpu.bound_ms(size, 1, 128, "fp16", peaks) == pytest.approx(1000 * weights / 4e12)
    assert gpu.bound_ms(size, 128, 128, "fp16", peaks) == pytest.approx(
        1000 * gpu.flops(size, 128, 128) / 800e12
    )
    assert gpu.bound_ms(size, 1, 128, "fp8", peaks) is None


def test_the_result_is_written_with_its_table(gpu, tmp_path):
    row = {"model": "bert-base", "variant": "v", "batch": 1, "tokens": 128, "median_host_ms": 0.5}
    row |= {"median_gpu_ms": 0.4, "sequences_per_s": 2000.0, "share_of_bound": None}
    row |= {"difference": 0.5, "correct": False}
    result = {"gpu": H200.record(), "rows": [row], "skipped": [{"what": "w", "reason": "r"}]}
    file = gpu.write(result, tmp_path)
    assert file.name == "gpu-nvidia-h200.json"
    assert json.loads(file.read_text())["rows"][0]["batch"] == 1
    text = file.with_suffix(".md").read_text()
    assert "| 0.500 | 0.400 | 2,000 | not measured | 50.00% (too large) |" in text
    assert "- skipped: w: r" in text
