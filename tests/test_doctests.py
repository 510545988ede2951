"""Every example in a docstring runs, in a folder where the models and data that they name lie."""

from __future__ import annotations

import doctest
import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest

import optkit
from tests.benchmarking.test_compare import report
from tests.serving.artifacts import artifact

FILES = [f for f in Path(optkit.__file__).parent.rglob("*.py") if ">>> " in f.read_text(encoding="utf-8")]
MODULES = sorted(
    ".".join(f.relative_to(Path(optkit.__file__).parents[1]).with_suffix("").parts).removesuffix(".__init__")
    for f in FILES
)
#: Examples marked to be skipped: why.
SKIPPED = {
    "optkit": "compresses a checkpoint: tests/compression",
    "optkit.benchmarking.bench": "measures for minutes: tests/benchmarking",
    "optkit.compression.build": "needs a GPU: tests/gpu",
    "optkit.compression.compress": "compresses a checkpoint: tests/compression",
    "optkit.compression.distill": "trains: tests/cli, tests/training/test_distributed.py",
    "optkit.compression.search.run": "30 trials: tests/compression/search",
    "optkit.events": "compresses a checkpoint: tests/compression",
    "optkit.serving.http.logs": "prints the time: tests/serving/http",
    "optkit.serving.serve": "serves until it is ended: tests/serving/http",
    "optkit.training.finetune": "trains: tests/training",
    "optkit.training.run": "trains: tests/training",
    "optkit.training.tune": "trains: tests/training",
}


@pytest.fixture
def folder(tmp_path, checkpoint):
    """What the examples name."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    artifact(tmp_path / "models" / "sst2-int8")
    artifact(tmp_path / "models" / "lm-int8", "causal-lm")
    shutil.copytree(checkpoint, tmp_path / "models" / "sst2")
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "private.pem").write_bytes(key)
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(40)]
    (tmp_path / "raw.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for name in ("main", "new"):
        (tmp_path / name).mkdir()
        report().save(tmp_path / name / "report.json")
    return tmp_path


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert not found.failed
    assert found.attempted or name in SKIPPED


def test_what_is_skipped_is_skipped_for_a_reason():
    marked = {name for name in MODULES if "+SKIP" in Path(import_module(name).__file__).read_text("utf-8")}
    assert marked == set(SKIPPED)
