"""`compress` without data: no accuracy is claimed anywhere, and the gate asks for equal answers."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from pathlib import Path

import pytest

from optkit.benchmarking.gate import Gate, share
from optkit.compression.compress import compress, default_out
from optkit.compression.recipe import Recipe
from optkit.errors import DataError, OutputError, RecipeError
from optkit.events import Event, Note
from optkit.report.model import Report, Row, render
from tests.conftest import sentences, write_jsonl

QUICK = {"shapes": ("1xdata",), "rounds": 2, "processes": 1, "threads": 1}
LENIENT = Gate(min_agreement=0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No peaks and no probes, and INT8 of a tiny model may be slower than fp32: others test that."""
    from optkit.benchmarking.evaluation import Evaluator

    reasons = Gate.reasons
    monkeypatch.setattr(Gate, "reasons", lambda self, row, first, tuned=None: reasons(self, row, first))
    monkeypatch.setattr(Evaluator, "roofline", lambda self, models: (None, {}, []))
    monkeypatch.setattr(Evaluator, "probe", lambda self, candidate: {})


@pytest.fixture
def run(run, monkeypatch, tmp_path):
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return run


FAST = (
    "--runtime",
    "onnxruntime",
    "--shapes",
    "1xdata",
    "--rounds",
    "2",
    "--processes",
    "1",
    "--threads",
    "1",
)


def test_int8_and_nothing_else_in_an_empty_folder(run, checkpoint, tmp_path):
    """Whether answers of a model with random weights survive INT8 is a matter of chance: the bar is low."""
    code, out, err = run("compress", checkpoint, "--int8", *FAST, "--min-agreement", "1%", "--limit", "40")
    assert code == 0, err
    folder = Path("models") / f"{checkpoint.name}-int8"
    assert out.startswith("Fidelity was measured, accuracy was not")
    assert f"in {folder}" in out
    assert "does not say which data it was trained on" in err
    report = Report.load(folder / "report.json")
    assert report.metric == ""
    assert report.gate.max_drop is None
    for row in report.rows:
        assert math.isnan(row.score)
        assert math.isnan(row.score_delta)
        assert (row.drop, row.outcomes, row.flips) == (None, "", [])
    for row in report.rows[1:]:
        assert row.fidelity["texts"] == 40
        assert row.agreement == row.fidelity["equal"] / 40
        assert row.fidelity["buckets"]
    assert report.row("onnxruntime-fp32").agreement == 1
    assert report.row("quantize-static").notes["calibration_examples"] > 100
    for format in ("json", "html", "markdown", "junit", "csv"):
        first = render(report, format).lower().split("\n")
        first = first if format == "html" else first[:1]  # a page's first words, not its style, are meant
        assert any("fidelity" in line and "accuracy" in line for line in first), format
    assert render(report, "markdown").startswith("### ✅ optkit: Fidelity was measured, accuracy was not")
    assert "<h1>Fidelity was measured, accuracy was not" in render(report, "html")
    stored = json.loads((folder / "report.json").read_text())
    assert stored["rows"][1]["score"] is None
    lines = list(csv.DictReader(io.StringIO(render(report, "csv"))))
    assert {line["score"] for line in lines} == {""}
    # Again: the folder is there, which is said before any work.
    code, _, err = run("compress", checkpoint, "--int8", *FAST)
    assert code == 6
    assert "hint:" in err
    assert "torch-fp32" not in err
    # The gate compares agreement, and never with a report of accuracy.
    file = folder / "report.json"
    assert run("gate", file, "--baseline", file)[0] == 0
    stored["rows"] = [{**row, "score": 0.9} for row in stored["rows"]]
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**stored, "fidelity": "", "metric": "accuracy"}))
    assert run("gate", file, "--baseline", other)[0] == 5
    assert run("gate", file, "--baseline", other, "--allow-other-data")[0] == 5


@pytest.fixture(scope="module")
def finetuned(checkpoint, tmp_path_factory):
    """A checkpoint that `optkit finetune` made, and its data."""
    from optkit.training.finetune import finetune
    from optkit.training.trainer.settings import FinetuneSettings

    folder = tmp_path_factory.mktemp("tuned")
    (folder / "data").mkdir()
    for split, count in (("train", 32), ("validation", 30)):
        rows = [{"words": x["text"], "label": x["label"]} for x in sentences(count, seed=count)]
        write_jsonl(folder / "data" / f"{split}.jsonl", rows)
    from optkit.tasks.base import Columns

    settings = FinetuneSettings(epochs=1, batch=16)
    finetune(checkpoint, folder / "data", folder / "tuned", settings, Columns(text="words"))
    return folder


def test_after_finetune_accuracy_is_measured_without_a_flag(run, finetuned):
    code, out, err = run("compress", finetuned / "tuned", "--int8", *FAST, "--max-drop", "0.9")
    assert code == 0, err
    report = Report.load(Path("models/tuned-int8/report.json"))
    assert (report.metric, report.fidelity) == ("accuracy", "")
    assert report.data["name"] == str((finetuned / "data").resolve())
    assert report.data["examples"] == 30
    assert 0 <= report.rows[0].score <= 1
    assert not out.lower().startswith("fidelity")


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_data_that_changed_or_is_gone_is_said_and_fidelity_measured(finetuned, tmp_path, how):
    data, aside = finetuned / "data", tmp_path / "aside"
    shutil.copytree(data, aside)
    try:
        if how == "gone":
            shutil.rmtree(data)
        else:
            with (data / "train.jsonl").open("a") as file:
                file.write('{"words": "one more", "label": "positive"}\n')
        events: list[Event] = []
        recipe = Recipe.int8(LENIENT, "onnxruntime")
        report = compress(
            finetuned / "tuned", recipe, out=tmp_path / "x", limit=20, events=events.append, **QUICK
        )
    finally:
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(aside, data)
    notes = [e.text for e in events if isinstance(e, Note)]
    assert any(("has changed (train)" if how == "changed" else "is gone") in note for note in notes)
    assert report.fidelity.startswith("fidelity was measured, accuracy was not")


def test_texts_of_ones_own(checkpoint, tmp_path):
    file = write_jsonl(tmp_path / "texts.jsonl", [{"text": x["text"]} for x in sentences(60, seed=3)])
    report = compress(
        checkpoint,
        Recipe.int8(LENIENT, "onnxruntime"),
        unlabelled=file,
        out=tmp_path / "x",
        **QUICK,
    )
    assert str(file) in report.fidelity
    assert report.data["examples"] == report.rows[1].fidelity["texts"]
    assert any("come from" in doubt for doubt in report.doubts)


def test_what_needs_data_is_refused_before_work(checkpoint, tmp_path):
    for recipe in (["prune", "export-onnx"], ["distill", "export-onnx"], ["prune-vocabulary", "export-onnx"]):
        with pytest.raises(DataError, match="which learns from it or cuts by it") as raised:
            compress(checkpoint, recipe, out=tmp_path / "x", **QUICK)
        assert "--data" in raised.value.hint
    with pytest.raises(DataError, match="for the metric f1"):
        compress(checkpoint, ["int8"], metric="f1", out=tmp_path / "x", **QUICK)
    with pytest.raises(RecipeError, match="received both"):
        compress(checkpoint, ["int8"], data="a", unlabelled="b", out=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_the_output_is_named_after_the_checkpoint_and_what_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ck").mkdir()
    assert default_out("ck", Recipe.int8(runtime="onnxruntime")) == Path("models/ck-int8")
    assert default_out("ck/", Recipe.of(["prune", "distill", "int8"])) == Path(
        "models/ck-pruned-distilled-int8"
    )
    assert default_out("owner/name", Recipe.of(["export-onnx"])) == Path("models/name-fp32")
    Path("models/ck-int8").mkdir(parents=True)
    Path("models/ck-int8/mine.txt").write_text("x")
    with pytest.raises(OutputError, match="ck-int8"):
        compress("ck", Recipe.int8(runtime="onnxruntime"))


def test_the_gate_asks_for_what_the_texts_can_show():
    gate = Gate().of_fidelity()
    assert (gate.max_drop, gate.min_agreement) == (None, 0.9)
    base = Row("a", "", "fake", "fp32", 1, math.nan, math.nan, 1.0, [], None, 1, 0, "")
    row = Row("b", "", "fake", "int8", 1, math.nan, math.nan, 0.99, [], None, 1, 0, "")
    assert "were not compared" in gate.reasons(row, base)[0]
    for low, passes in ((0.9, True), (0.8999, False), (math.nan, False), (None, False)):
        row.fidelity = {"agreement": 0.99, "agreement_low": low, "texts": 100}
        assert (gate.reasons(row, base) == []) is passes
    assert Recipe.from_dict(Recipe.int8(gate, "onnxruntime").to_dict()).gate == gate


@pytest.mark.parametrize("text", ["1", "100%", "0", "nan", "inf", "-5%", "many", ""])
def test_an_agreement_that_no_texts_can_show_is_refused(text):
    with pytest.raises(RecipeError):
        share(text, "--min-agreement")


def test_search_without_data_searches_what_needs_none(run, checkpoint, tmp_path):
    out = tmp_path / "best"
    quick = ("--trials", "2", "--sampler", "grid", *FAST[2:], "--limit", "20")
    space = ("--space", "quantize=none,quantize-dynamic", "--min-agreement", "1%")
    code, printed, err = run("search", checkpoint, "--out", out, *space, *quick)
    assert code == 0, err
    assert printed.startswith("Fidelity was measured, accuracy was not")
    assert "does not say which data it was trained on" in err
    report = Report.load(out / "report.json")
    assert (report.metric, report.data["examples"]) == ("", 20)
    assert all(math.isnan(row.score) for row in report.rows)
    study = json.loads((out / "study.json").read_text())
    assert study["objectives"][0]["name"] == "agreement"
    agreements = [row.agreement for row in report.rows[2:]]
    assert set(agreements) <= {trial["values"][0] for trial in study["trials"]}
    assert "<h1>Fidelity was measured" in (out / "study.html").read_text()
    code, _, err = run("search", checkpoint, "--out", tmp_path / "x", "--space", "prune.share=0,0.3")
    assert code == 5
    assert "to search prune, which learns from it or cuts by it" in err
    assert "--space quantize=" in err
    assert not (tmp_path / "x").exists()


def test_distill_without_labels_learns_the_teachers_answers(run, checkpoint, tmp_path):
    code, _, err = run("distill", checkpoint, "--teacher", checkpoint, "--out", tmp_path / "x")
    assert code == 5, err
    assert "the checkpoint does not say which data it was trained on" in err
    assert "--data" in err
    assert "--unlabelled FILE" in err
    assert list(tmp_path.iterdir()) == []
    file = write_jsonl(tmp_path / "texts.jsonl", [{"text": x["text"]} for x in sentences(60, seed=3)])
    student = shutil.copytree(checkpoint, tmp_path / "student")
    asked = ("--unlabelled", file, "--epochs", "1", "--threads", "1")
    code, out, err = run("distill", student, "--teacher", checkpoint, *asked, "--out", tmp_path / "x")
    assert code == 0, err
    assert "accuracy is not measured" in err
    assert "kept: agreement with the teacher 1.0000" in out
    code, _, err = run("distill", student, "--teacher", checkpoint, *asked, "--labels", "1", "--out", "y")
    assert code == 5, err
    assert "Expected data with labels for distill.labels" in err
