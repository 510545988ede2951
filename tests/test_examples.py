"""The examples run as their first lines say, in an empty folder, on the tiny checkpoint that they make."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from starlette.testclient import TestClient

from optkit.report.interval import Interval
from optkit.report.model import Report
from tests.conftest import read_what_is_installed_anew

FOLDER = Path(__file__).parent.parent / "examples"
PATHS = (FOLDER, FOLDER.parent, FOLDER / "plugin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place to work, and the examples' plugin as `pip install` would leave it."""
    folder = tmp_path_factory.mktemp("examples")
    project = tomllib.loads((FOLDER / "plugin" / "pyproject.toml").read_text())["project"]
    info = folder / "site" / "plugin_example-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1\n")
    points = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in named.items()) for group, named in points]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


def run(folder, name, *words, code=0):
    """What the script prints; it has to end with `code`."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        patch.setattr(sys, "argv", [name, *words])
        for path in (*PATHS, folder / "site"):
            patch.syspath_prepend(path)
        ended = 0
        read_what_is_installed_anew()
        try:
            runpy.run_path(str(FOLDER / name), run_name="__main__")
        except SystemExit as reason:
            ended = reason.code
    read_what_is_installed_anew()
    assert ended == code, printed.getvalue()
    return printed.getvalue()


@pytest.fixture(scope="module")
def compressed(folder):
    """What `compress.py` prints, and where its output lies."""
    return run(folder, "compress.py"), folder / "work/int8"


def test_compress(compressed):
    out, folder = compressed
    report = Report.load(folder / "report.json")
    assert f"chosen: {report.chosen}" in out
    assert out.count("ive 0.") == 2, "a label with its score for each of two texts"


def test_the_gate_of_a_ci_job(compressed, folder):
    report = Report.load(compressed[1] / "report.json")
    report.save(folder / "baseline.json")
    assert "passes" in run(folder, "ci_gate.py", "work/int8/report.json", "baseline.json")
    report.chosen_row.speedup = Interval(0.10, 0.09, 0.11)
    report.save(folder / "slow.json")
    run(folder, "ci_gate.py", "slow.json", "baseline.json", code=3)


def test_a_recipe_of_ones_own(folder):
    out = run(folder, "own_recipe.py")
    assert out.splitlines()[1] == "prune -> export-onnx -> quantize-static"
    assert "at least 1.2 times as fast" in out


def test_a_pass_of_ones_own(folder):
    out = run(folder, "own_pass.py")
    assert int(re.search(r"^sparsify (\d+)$", out, re.M)[1]) > 1000


def test_a_task_of_ones_own(folder):
    out = run(folder, "own_task.py").splitlines()
    assert out[0].startswith("reviews accuracy 0.")
    assert all(line.startswith(("recommended (", "not recommended (")) for line in out[1:3])


def test_recommendation_by_text(folder):
    *scores, recall, first, _, _ = run(folder, "recommend.py").splitlines()
    assert [line.split()[1] for line in scores] == ["ndcg@10"] * len(scores)
    assert 0 < float(recall.split()[1]) <= 1
    assert re.fullmatch(r"[01]\.\d+ \w+ \w+ \w+", first)


def test_the_application_answers(compressed, monkeypatch):
    monkeypatch.setenv("MODEL", str(compressed[1]))
    app = runpy.run_path(str(FOLDER / "fastapi_app.py"))["app"]
    with TestClient(app) as client:
        answers = client.post("/sentiment", json={"texts": ["a fine film", "dull"]}).json()
        assert {a["label"] for a in answers} <= {"negative", "positive"}
        assert all(0.5 <= a["score"] <= 1 for a in answers)
        assert client.post("/sentiment", json={"texts": "a fine film"}).status_code == 422


def test_the_notebook_runs_from_the_first_cell_to_the_last(folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, PATHS)))
    notebook = nbformat.read(FOLDER / "compress.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()
    printed = "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "quantize-dynamic" in printed
    assert "positive" in printed or "negative" in printed


def test_every_example_is_tried_and_named_in_the_docs():
    tried = Path(__file__).read_text(encoding="utf-8")
    page = (FOLDER.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    for file in FOLDER.iterdir():
        if file.suffix in (".py", ".ipynb", ".toml"):
            assert file.name in page, f"docs/examples.md does not name {file.name}"
            assert file.name in tried or file.name in ("tiny.py", "recipe.toml"), f"{file.name} is not tried"
