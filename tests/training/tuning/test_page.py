"""The page of a study, and its table."""

from __future__ import annotations

import json

import pytest
from optuna import TrialPruned

from optkit.errors import PassError
from optkit.training.tuning import page
from optkit.training.tuning.results import collect, front
from optkit.training.tuning.space import Space
from optkit.training.tuning.study import Objective
from optkit.training.tuning.worker import Worker
from tests.training.tuning.studies import SCORE, SPACE, begin, score

TWO = [Objective("accuracy", True), Objective("time", False, "share of the baseline's")]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    def run(trial, parameters):
        for step in (1, 2):
            trial.report(score(trial, parameters)[0] / (3 - step), step)
        if trial.number == 5:
            raise TrialPruned("hopeless")
        if trial.number == 6:
            raise PassError("The loss is <nan>.")
        return score(trial, parameters)

    url = f"sqlite:///{tmp_path_factory.mktemp('study')}/s.db"
    study = begin(url)
    Worker(study, SPACE, run, 12).work()
    return collect(study, url, "tpe", "median", SCORE, SPACE, {"model": "m1"}, "optkit tune")


@pytest.fixture(scope="module")
def double(tmp_path_factory):
    def run(trial, parameters):
        trial.set_user_attr("notes", {"feasible": parameters["x"] > -0.5})
        return [parameters["x"], parameters["x"] ** 2 + parameters["y"]]

    url = f"sqlite:///{tmp_path_factory.mktemp('study')}/s.db"
    study = begin(url, objectives=TWO)
    Worker(study, SPACE, run, 12).work()
    return collect(study, url, "tpe", "none", TWO, SPACE, {"model": "m1"})


def test_it_tells_how_every_trial_ended(single):
    assert single.count() == "12 trials: 10 complete, 1 stopped early, 1 failed"
    assert single.trial(6).error == "The loss is <nan>."
    assert single.trial(5).curve.keys() == {1, 2}
    best = max(single.complete, key=lambda t: t.values[0])
    assert single.best == [best.number]
    assert sum(single.importance["score"].values()) == pytest.approx(1)


def test_the_page_is_whole_and_escapes_what_it_shows(single):
    html = page.render(single, "Trial <best>.")
    assert "<nan>" not in html
    assert "&lt;nan&gt;" in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
    for title in ("History of score", "score by epoch", "What decided score", "score by x", "score by c"):
        assert f">{title}</title>" in html
    assert html.count("<svg") == html.count("</svg>") == 6


def test_two_objectives_have_a_front(double):
    html = page.render(double, "Done.")
    assert ">accuracy against time</title>" in html
    assert len(double.best) > 1
    assert set(double.importance) == {"accuracy", "time"}


def test_the_front_is_what_nothing_beats(double):
    for t in double.complete:
        beaten = any(
            o.values[0] >= t.values[0] and o.values[1] <= t.values[1] and o.values != t.values
            for o in double.complete
        )
        assert beaten == (t.number not in front(double.trials, TWO))


def test_the_table_begins_with_the_best(single, double):
    lines = page.lines(single)
    assert lines[0].split() == ["trial", "score", "parameters"]
    assert lines[1].split()[:2] == ["*", str(single.best[0])]
    assert lines[-1] == single.count()
    assert sum(line.lstrip().startswith("*") for line in page.lines(double)) == len(double.best)


def test_what_is_saved_is_json(single, tmp_path):
    page.save(single, tmp_path, "Done.")
    stored = json.loads((tmp_path / page.JSON).read_text())
    assert stored["schema"] == "optkit.study/1"
    assert len(stored["trials"]) == 12
    assert (tmp_path / page.PAGE).read_text().startswith("<!doctype html>")


def test_a_run_of_fewer_trials_did_not_finish_for_one_of_more(single, tmp_path):
    page.save(single, tmp_path, "Done.")
    mine = tmp_path, single.name, single.storage
    assert page.finished_since(*mine, 0.0, complete=10)
    assert not page.finished_since(*mine, 0.0, complete=11)
    assert not page.finished_since(*mine, 4e9, complete=10)
    assert not page.finished_since(tmp_path, "other", single.storage, 0.0)


def test_a_study_with_nothing_finished_has_a_page(tmp_path):
    study = begin(f"sqlite:///{tmp_path}/s.db")
    study.ask()
    result = collect(study, "u", "tpe", "none", SCORE, SPACE, {})
    assert result.best == []
    assert "1 trials: 1 running" in page.render(result, "Nothing.")
    assert page.lines(result)[-1] == "1 trials: 1 running"


def test_one_value_only_has_no_slice(tmp_path):
    space = Space.parse(["x=uniform(0,1)", "y=0.1", "c=a"])
    study = begin(f"sqlite:///{tmp_path}/s.db", space)
    Worker(study, space, score, 3).work()
    html = page.render(collect(study, "u", "tpe", "none", SCORE, space, {}), "Done.")
    assert ">score by x</title>" in html
    assert ">score by y</title>" not in html
