"""`optkit search` on a tiny model: sharing, stopping early, the front, the gate, a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from optkit import load
from optkit.benchmarking.gate import Gate
from optkit.compression.search import finalists
from optkit.compression.search.run import search
from optkit.core.artifact import MANIFEST, Artifact
from optkit.core.output import check_free
from optkit.errors import CheckpointError, DataError, OutputError, RecipeError
from optkit.events import Step
from optkit.training.tuning.worker import Worker
from tests.forks import Fork

QUICK = {"shapes": ("1xdata",), "rounds": 1, "processes": 1, "threads": 1, "sampler": "grid"}
SPACE = ("prune.share=0,0.3", "prune.criterion=magnitude", "quantize=none,quantize-dynamic")
LENIENT = 0.5


def made(folder: Path) -> list[str]:
    return sorted(p.name.rpartition("-")[0] for p in folder.iterdir() if (p / MANIFEST).exists())


@pytest.fixture(scope="module", autouse=True)
def no_probes():
    """The machine's peaks and the INT8 probes take seconds, and tests of `compress` are for them.

    Whether INT8 of a tiny model is slower than fp32 is a matter of chance, so the gate does not ask.
    """
    from optkit.benchmarking.evaluation import Evaluator

    reasons = Gate.reasons
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gate, "reasons", lambda self, row, first, tuned=None: reasons(self, row, first))
        patch.setattr(Evaluator, "roofline", lambda self, models: (None, {}, []))
        patch.setattr(Evaluator, "probe", lambda self, candidate: {})
        yield


@pytest.fixture(scope="module")
def searched(checkpoint, data, tmp_path_factory):
    """The whole grid of four, by time."""
    out, events = tmp_path_factory.mktemp("models") / "best", []
    both = search(
        checkpoint, data=data, out=out, space=SPACE, max_drop=LENIENT, trials=4, events=events.append, **QUICK
    )
    result, report = both.study, both.report
    return out, result, report, events


def test_every_trial_has_a_score_and_a_ratio_measured_beside_fp32(searched):
    out, result, _, _ = searched
    check_free(out, force=True)
    assert result.count() == "4 trials: 4 complete"
    for trial in result.complete:
        notes = trial.notes["notes"]
        assert trial.values == [notes["score"], notes["cost"]]
        assert notes["cost"] == pytest.approx(1 / notes["speedup"]["value"])
        assert notes["speedup"]["low"] <= notes["speedup"]["value"] <= notes["speedup"]["high"]
        assert notes["feasible"]


def test_the_front_was_measured_side_by_side_and_the_fastest_that_passes_is_there(searched):
    out, result, report, _ = searched
    candidates = [row for row in report.rows if row.name.startswith("trial ")]
    assert [r.name for r in report.rows[:2]] == ["torch-fp32", "onnxruntime-fp32"]
    assert {int(r.name.split()[1][:-1]) for r in candidates} == set(result.best)
    passed = [r for r in candidates if r.verdict == "passed"]
    assert report.chosen == max(passed, key=lambda r: r.speedup.value).name
    Artifact.open(out).verify()
    with load(out) as model:
        assert model.predict(["a fine film"])[0].label in ("negative", "positive")
    steps = [step["pass"] for step in Artifact.open(out).lineage]
    assert [step["pass"] for step in report.recipe["steps"]] == steps


def test_the_reports_lie_beside_the_model(searched):
    out, result, report, _ = searched
    assert json.loads((out / "report.json").read_text())["chosen"] == report.chosen
    stored = json.loads((out / "study.json").read_text())
    assert stored["best"] == result.best
    assert ">accuracy against time</title>" in (out / "study.html").read_text()


def test_only_the_front_s_models_and_the_baseline_stay(searched):
    out, result, _, _ = searched
    last = ["export-onnx", *(result.trial(n).parameters["quantize"] or "export-onnx" for n in result.best)]
    left = made(out.with_name("best.study"))
    assert "prune" not in left
    assert set(left) == set(last)


def test_again_it_only_confirms(searched, checkpoint, data):
    out, result, report, _ = searched
    events = []
    both = search(
        checkpoint, data=data, out=out, space=SPACE, max_drop=LENIENT, trials=4, events=events.append, **QUICK
    )
    again, second = both.study, both.report
    assert again.trials == result.trials
    assert [r.name for r in second.rows] == [r.name for r in report.rows]
    assert not any(isinstance(e, Step) and "prune" in e.name for e in events)


def test_what_trials_have_in_common_is_made_once(searched):
    """Four chains: one pruning and two exports load a checkpoint, the baseline's export among them."""
    loaded = [e for e in searched[3] if getattr(e, "text", "") == "loading the checkpoint"]
    assert len(loaded) == 3


def test_no_trial_feasible(run, checkpoint, data, tmp_path):
    """Random pruning of nearly everything: stopped before quantizing; the best score is kept all the same."""
    code, _, err = run(
        *(
            "search",
            checkpoint,
            "--data",
            data,
            "--out",
            tmp_path / "out",
            "--max-drop",
            "0",
            "--trials",
            "1",
        ),
        *("--space", "prune.share=0.95", "--space", "prune.criterion=random", "--threads", "1"),
        *("--space", "quantize=quantize-dynamic", "--sampler", "grid", "--shapes", "1xdata"),
        *("--rounds", "1", "--processes", "1", "--min-speedup", "100000"),
    )
    assert code == 3, err
    assert "No candidate passed the gate" in err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["gate"]["passed"] is False
    assert Artifact.open(tmp_path / "out").lineage[-1]["pass"] == "quantize-dynamic"
    assert "No trial passed the gate" in (tmp_path / "out" / "study.html").read_text()


def test_a_hopeless_trial_is_stopped_before_it_is_quantized(checkpoint, data, tmp_path, monkeypatch):
    """The score that pruning leaves is replaced: far below the gate, so that no export follows."""
    from optkit.compression.search import trial
    from optkit.report.interval import Interval

    score = trial.score

    def hopeless(job, store, candidate, *rest):
        model = score(job, store, candidate, *rest)
        drop = Interval(0.3, 0.2, 0.4) if model.name.endswith("prune") else model.answers.drop
        return replace(model, answers=replace(model.answers, drop=drop))

    monkeypatch.setattr(trial, "score", hopeless)
    notes = []
    result = search(
        checkpoint,
        data=data,
        out=tmp_path / "out",
        space=(*SPACE[:2], "quantize=none"),
        max_drop=0.1,
        trials=2,
        objective="memory",
        events=lambda e: notes.append(getattr(e, "text", "")),
        **QUICK,
    ).study
    ended = {t.parameters["prune.share"]: t.state for t in result.trials}
    assert ended == {0: "complete", 0.3: "stopped early"}
    assert any(
        "the score of prune drops by 0.3000, at least 0.2000; allowed is 0.1000" in text for text in notes
    )
    assert all(t.notes["notes"]["steps"][0] == "prune" for t in result.trials if t.state == "stopped early")


def test_a_pass_that_does_not_suit_the_model_fails_its_trial_and_the_others_go_on(
    make_checkpoint, data, tmp_path
):
    """`prune-width` refuses a DeBERTa with a CheckpointError, whose trial alone it is to end."""
    both = search(
        make_checkpoint("deberta-v2"),
        data=data,
        out=tmp_path / "out",
        space=("prune-width=true,false", "quantize=none"),
        max_drop=LENIENT,
        trials=2,
        objective="size",
        **QUICK,
    )
    result, report = both.study, both.report
    ended = {t.parameters["prune-width"]: (t.state, t.error) for t in result.trials}
    assert ended[False] == ("complete", "")
    assert ended[True][0] == "failed"
    assert "Cannot cut the hidden dimension of 'deberta-v2'" in ended[True][1]
    assert report.chosen is not None


def test_what_all_trials_share_ends_the_study(checkpoint, data, tmp_path, monkeypatch):
    def broken(job, store):
        raise CheckpointError("The weights are damaged.")

    monkeypatch.setattr("optkit.compression.search.trial.baselines", broken)
    with pytest.raises(CheckpointError, match="damaged"):
        search(checkpoint, data=data, out=tmp_path / "out", space=SPACE, trials=1, **QUICK)


def test_where_the_front_misses_the_gate_the_next_best_is_measured(checkpoint, data, tmp_path, monkeypatch):
    """INT8 is smallest and, here, never passes: something that no trial can know."""
    reasons, notes = Gate.reasons, []

    def never_int8(self, row, first, tuned=None):
        timed = tuned is not None  # a trial alone is compared with no tuned fp32
        return [*reasons(self, row, first), *(["no INT8"] if timed and row.precision == "int8" else [])]

    monkeypatch.setattr(Gate, "reasons", never_int8)
    monkeypatch.setattr(finalists, "FINALISTS", 1)
    out = tmp_path / "out"
    events = lambda e: notes.append(getattr(e, "text", ""))  # noqa: E731
    both = search(
        checkpoint,
        data=data,
        out=out,
        space=SPACE[-1:],
        max_drop=LENIENT,
        trials=2,
        objective="size",
        events=events,
        **QUICK,
    )
    result, report = both.study, both.report
    by_scheme = {t.parameters["quantize"]: t.number for t in result.trials}
    assert report.gate.passed
    assert report.chosen.startswith(f"trial {by_scheme[None]}:")
    assert [r.name for r in report.rows[2:]] == [report.chosen]
    assert "none of these passed the gate; the next best are measured" in notes
    said = f"Measured before it, these missed the gate: {by_scheme['quantize-dynamic']}."
    assert said in (out / "study.html").read_text()


def test_a_trial_whose_answers_depend_on_their_batch_is_stopped_where_the_gate_asks(
    checkpoint, data, tmp_path, monkeypatch
):
    from optkit.benchmarking.evaluation import Evaluator

    found = {"invariant": False, "largest_difference": 0.2, "flipped": 1, "examples": 40}
    monkeypatch.setattr(Evaluator, "probe", lambda self, candidate: {"neighbours": found})
    both = search(
        checkpoint,
        data=data,
        out=tmp_path / "out",
        space=SPACE[-1:],
        max_drop=0.5,
        batch_invariant=True,
        trials=2,
        objective="size",
        **QUICK,
    )
    result, report = both.study, both.report
    ended = {t.parameters["quantize"]: t.state for t in result.trials}
    assert ended == {None: "complete", "quantize-dynamic": "stopped early"}
    assert report.gate.passed
    assert [r.precision for r in report.rows[2:]] == ["fp32"]


def test_a_study_of_another_gate_is_refused_and_nothing_is_touched(searched, checkpoint, data):
    out = searched[0]
    before = sorted(p.name for p in out.iterdir())
    with pytest.raises(RecipeError, match="another gate"):
        search(checkpoint, data=data, out=out, space=SPACE, trials=4, **QUICK)
    with pytest.raises(RecipeError, match="another space: prune.share"):
        search(
            checkpoint, data=data, out=out, space=("prune.share=0.1", *SPACE[1:]), max_drop=LENIENT, **QUICK
        )
    assert sorted(p.name for p in out.iterdir()) == before


def test_a_study_of_another_teacher_or_other_texts_is_refused(checkpoint, make_checkpoint, data, tmp_path):
    """By contents: the paths, which the space holds, are the same."""
    teacher, texts = tmp_path / "teacher", tmp_path / "texts.txt"
    shutil.copytree(checkpoint, teacher)
    texts.write_text("a fine film\n")

    def begin():
        space = [f"distill.teacher={teacher}", f"distill.unlabelled={texts}", "distill.epochs=0"]
        search(checkpoint, data=data, out=tmp_path / "out", space=space, trials=1, **QUICK)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "work", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            begin()
    texts.write_text("a dull film\n")
    with pytest.raises(RecipeError, match=f"another teacher or texts: distill.unlabelled {texts}="):
        begin()
    texts.write_text("a fine film\n")
    shutil.copy(make_checkpoint("bert", hidden_size=16) / "config.json", teacher)
    with pytest.raises(RecipeError, match=f"another teacher or texts: distill.teacher {teacher}="):
        begin()
    texts.unlink()
    with pytest.raises(DataError, match="Expected distill.unlabelled to be a file of texts"):
        begin()


def test_bad_input_stops_before_any_work(checkpoint, data, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RecipeError, match="Unknown objective 'speed'"):
        search(checkpoint, data=data, out=out, objective="speed")
    with pytest.raises(RecipeError, match="Unknown name"):
        search(checkpoint, data=data, out=out, space=["prun.share=0.1"])
    out.mkdir()
    (out / "mine").write_text("")
    with pytest.raises(OutputError, match="exists"):
        search(checkpoint, data=data, out=out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_kill_9_and_two_processes_finish_it_together(checkpoint, data, tmp_path):
    command = [sys.executable, "-m", "optkit", "search", str(checkpoint), "--data", str(data)]
    command += ["--out", str(tmp_path / "out"), "--max-drop", "50%", "--trials", "2", "--threads", "1"]
    command += ["--space", SPACE[-1]]
    command += ["--sampler", "grid", "--rounds", "1", "--processes", "1", "--shapes", "1xdata"]
    command += ["--objective", "size", "--storage", f"journal:{tmp_path}/s.journal"]
    first = Fork(command)
    while not list((tmp_path / "out.study").glob("row-*.json")):
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    both = [Fork(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate() for process in both]
    # 3: the model was slower than fp32 by chance, which the gate does not let pass.
    assert [process.returncode for process in both] in ([0, 0], [3, 3]), said
    assert any("is gone; going on with it" in stderr for _, stderr in said)
    assert all("2 trials: 2 complete" in stdout for stdout, _ in said)
    stored = json.loads((tmp_path / "out" / "study.json").read_text())
    sizes = {t["parameters"]["quantize"]: t["values"][1] for t in stored["trials"]}
    assert sizes["quantize-dynamic"] < sizes[None], "MB"
    Artifact.open(tmp_path / "out").verify()
