"""The logic of benchmarks/gpu.py, without a GPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from optkit.benchmarking.roofline import Peak
from optkit.errors import OptkitError
from optkit.runtimes.cuda.probe import Gpu

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"
H200 = Gpu("NVIDIA H200", "9.0", 141 * 2**30, "13.1", "580.65.06")


@pytest.fixture(scope="module")
def gpu():
    sys.path.insert(0, str(FILE.parent))  # as Python does for a script
    spec = importlib.util.spec_from_file_location("benchmark_gpu", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_gpu"] = module
    spec.loader.exec_module(module)
    sys.path.remove(str(FILE.parent))
    return module


def test_without_a_gpu_it_says_so_and_writes_nothing(gpu, monkeypatch, capsys, tmp_path):
    def none():
        raise OptkitError("Expected an NVIDIA driver.")

    monkeypatch.setattr(gpu, "probe", none)
    monkeypatch.setattr(gpu, "RESULTS", tmp_path)
    assert gpu.main([]) == 77
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
    peaks = Peak(fp32=1.0, int8=1.0, fp16=800e12, bandwidth=4e12)
    size = gpu.SIZES["bert-base"]
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072) * 2
    assert gpu.bound_ms(size, 1, 128, "fp16", peaks) == pytest.approx(1000 * weights / 4e12)
    assert gpu.bound_ms(size, 128, 128, "fp16", peaks) == pytest.approx(
        1000 * gpu.flops(size, 128, 128) / 800e12
    )
    assert gpu.bound_ms(size, 1, 128, "fp8", peaks) is None


def test_the_result_is_written_with_its_table(gpu, tmp_path):
    row = {"model": "bert-base", "variant": "v", "batch": 1, "tokens": 128, "median_host_ms": 0.5}
    row |= {
        "median_gpu_ms": 0.4,
        "median_transfers_ms": 0.6,
        "sequences_per_s": 2000.0,
        "share_of_bound": None,
    }
    row |= {"difference": 0.5, "correct": False}
    result = {"gpu": H200.record(), "rows": [row], "skipped": [{"what": "w", "reason": "r"}]}
    result |= {"realistic": [], "served": []}
    file = gpu.write(result, tmp_path)
    assert file.name == "gpu-nvidia-h200.json"
    assert json.loads(file.read_text())["rows"][0]["batch"] == 1
    text = file.with_suffix(".md").read_text()
    assert "| 0.500 | 0.400 | 0.600 | 2,000 | not measured | 50.00% (too large) |" in text
    assert "- skipped: w: r" in text


def test_the_whole_script_runs_on_a_cpu_with_tiny_shapes(tmp_path):
    """In a process without datasets and optuna, which a GPU machine may lack."""
    flags = ["--device", "cpu", "--quick", "--out", str(tmp_path)]
    code = (
        "import sys, runpy; sys.modules |= {'datasets': None, 'optuna': None};"
        f"sys.path.insert(0, {str(FILE.parent)!r}); sys.argv[1:] = {flags!r};"
        f"runpy.run_path({str(FILE)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "gpu-cpu.json").read_text())
    assert {r["variant"] for r in result["rows"]} == {
        "torch eager fp32",
        "torch sdpa fp16",
        "torch sdpa bf16",
    }
    assert all(r["correct"] for r in result["rows"])
    assert [r["variant"] for r in result["realistic"]] == ["torch sdpa fp16", "torch sdpa bf16"]
    reasons = {s["reason"] for s in result["skipped"]}
    assert "CUDA graphs need a GPU" in reasons
    if result["served"]:
        assert [r["format"] for r in result["served"]] == ["hf", "hf", "onnx"]
        assert result["served"][0]["agreement"] == 1
    else:
        assert "the shared checkpoint is not beside this project" in reasons


def test_a_cpu_gives_no_results_by_mistake(gpu, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cpu"])
    assert "--quick and --out" in capsys.readouterr().err
