"""The base install in an environment of its own: the wheel and its five dependencies, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.serving.artifacts import TASKS, artifact

ROOT = Path(__file__).parents[2]
_CODE = """
import json, sys
from importlib.metadata import distributions
import optkit
found = {}
for task, folder, item in json.loads(sys.argv[1]):
    with optkit.load(folder) as predictor:
        found[task] = type(predictor.predict_one(item)).__name__
installed = {d.name.lower() for d in distributions()}
print(json.dumps({"found": found, "installed": sorted(installed), "home": optkit.__file__}))
"""
INPUTS = {
    "question-answering": ["who?", "a fine film"],
    "fill-mask": "a fine [MASK]",
    "rerank": ["who?", ["a fine film", "dull"]],
    "multiple-choice": ["who?", ["a fine film", "dull"]],
    "zero-shot-classification": ["a fine film", ["film", "cast"]],
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """The Python of a fresh environment into which the wheel was installed."""
    home = tmp_path_factory.mktemp("bare")
    shutil.copytree(ROOT / "optkit", home / "source" / "optkit")  # setuptools writes beside what it builds
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, home / "source")
    pip("wheel", "--no-deps", "-w", str(home), str(home / "source"))
    venv.create(home / "venv", with_pip=False)
    python = home / "venv" / "bin" / "python"
    (wheel,) = home.glob("optkit-*.whl")
    pip("--python", str(python), "install", "-c", str(ROOT / "constraints.txt"), str(wheel))
    return python


def pip(*arguments: str) -> None:
    done = run([sys.executable, "-m", "pip", "-q", "--retries", "1", *arguments])
    if "No matching distribution" in done.stderr or "Could not find a version" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd="/", env=outside)


def test_every_task_of_text_is_served_without_torch(bare, tmp_path):
    tasks = [task for task in TASKS if task != "image-classification"]  # needs the extra `images`
    jobs = [[t, str(artifact(tmp_path / t, t)), INPUTS.get(t, "a fine film")] for t in tasks]
    done = run([str(bare), "-I", "-c", _CODE, json.dumps(jobs)])
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["found"] == {
        "text-classification": "Classification",
        "token-classification": "Tagging",
        "question-answering": "Answer",
        "embeddings": "ndarray",
        "causal-lm": "Completion",
        "fill-mask": "Filled",
        "multi-vector-embeddings": "ndarray",
        "rerank": "Ranking",
        "zero-shot-classification": "Fitting",
        "multiple-choice": "Choice",
        "sparse-embeddings": "SparseVector",
    }
    assert str(bare.parent.parent) in result["home"]
    assert not {"torch", "transformers", "datasets", "onnx", "scikit-learn"} & set(result["installed"])


def test_the_command_line_answers(bare, tmp_path):
    folder = artifact(tmp_path / "model")
    command = [str(bare.with_name("optkit")), "predict", str(folder), "a fine film", "--json"]
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["scores"]) == {"negative", "positive"}
