"""Opening, joining and refusing a study; samplers and pruners."""

from __future__ import annotations

import json
import pickle

import pytest

from optkit.errors import OutputError, RecipeError
from optkit.training.tuning.samplers import PRUNERS, SAMPLERS, make_pruner, make_sampler
from optkit.training.tuning.space import Space
from optkit.training.tuning.storage import open_storage, shown
from optkit.training.tuning.study import Objective
from optkit.training.tuning.worker import Worker, is_finished
from tests.training.tuning.studies import SCORE, SPACE, begin, score

WIDER = Space.parse(["x=uniform(-2,1)", "y=loguniform(0.01,1)", "c=a,b"])
URLS = ("sqlite:///{}/deep/s.db", "journal:{}/s.journal")


@pytest.fixture(params=URLS)
def url(request, tmp_path) -> str:
    return request.param.format(tmp_path)


def test_a_study_is_joined_by_whoever_asks_the_same(url):
    Worker(begin(url), SPACE, score, 2).work()
    assert len(begin(url, sampler="random", pruner="hyperband").trials) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"space": WIDER}, r"another space: x=uniform\(-1,1\); received x=uniform\(-2"),
        ({"space": Space.parse(["x=uniform(-1,1)"])}, r"another space: y=.*\(absent\)"),
        ({"facts": {"model": "m2"}}, "another model: m1; received m2"),
        ({"objectives": [Objective("loss", False)]}, "another objectives"),
    ],
)  # fmt: skip
def test_a_study_that_asked_something_else_is_refused(url, change, said):
    begin(url)
    with pytest.raises(RecipeError, match=said) as caught:
        begin(url, **change)
    assert "--study NAME" in caught.value.hint


def test_a_study_of_others_is_left_alone(tmp_path):
    import optuna

    url = f"sqlite:///{tmp_path}/s.db"
    study = optuna.create_study(storage=url, study_name="s", direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(RecipeError, match="not made by optkit"):
        begin(url)


def test_what_is_no_storage_is_refused(tmp_path):
    (tmp_path / "s.db").write_text("this is no database, it is a text that is long enough" * 50)
    with pytest.raises(OutputError, match="Could not open the storage"):
        open_storage(f"sqlite:///{tmp_path}/s.db")
    with pytest.raises(OutputError, match="nothere"):
        open_storage("nothere://host/db")
    with pytest.raises(RecipeError, match="Expected a storage URL"):
        open_storage("study.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Could not make the folder"):
        open_storage(f"sqlite:///{tmp_path}/file/s.db")


def test_no_password_is_shown():
    assert shown("mysql://u:p@ss@h/d") == "mysql://u:***@h/d"
    assert shown("sqlite:///a.db") == "sqlite:///a.db"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_finds_what_is_good(sampler):
    study = _in_memory(sampler)
    Worker(study, SPACE, score, 27).work()
    assert sum(map(is_finished, study.trials)) == (27 if sampler != "grid" else 18)
    assert study.best_value > 0.7


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_study_proposes_what_an_uninterrupted_one_does(sampler, tmp_path):
    whole, url = begin(f"sqlite:///{tmp_path}/whole.db", sampler=sampler), f"sqlite:///{tmp_path}/parts.db"
    Worker(whole, SPACE, score, 14).work()
    Worker(begin(url, sampler=sampler), SPACE, score, 6).work()
    parts = begin(url, sampler=sampler)
    Worker(parts, SPACE, score, 14).work()
    assert [t.params for t in parts.trials] == [t.params for t in whole.trials]


def test_another_seed_proposes_other_trials():
    one, two = (_in_memory("random", seed=seed) for seed in (0, 1))
    for study in (one, two):
        Worker(study, SPACE, score, 3).work()
    assert all(a.params != b.params for a, b in zip(one.trials, two.trials))


def test_cmaes_keeps_no_pickle_and_proposes_what_optuna_s_own_does(monkeypatch):
    """With every trial seeded alike, the replayed state must be the pickled one."""
    import optuna

    space = Space.parse(["x=uniform(-1,1)", "y=uniform(0,1)"])
    ours, theirs = _in_memory("cmaes", space), _in_memory("cmaes", space)

    class Pickled(optuna.samplers.CmaEsSampler):
        def _restore_optimizer(self, completed_trials):
            if found := super()._restore_optimizer(completed_trials):
                self._cma_rng.rng.randint(1, 2**31 - 2)  # what making a new one draws
            return found

    theirs.sampler._make = lambda seed: Pickled(seed=seed, warn_independent_sampling=False)
    run = lambda trial, p: [-((p["x"] - 0.3) ** 2) - (p["y"] - 0.6) ** 2]  # noqa: E731
    Worker(theirs, space, run, 25).work()
    assert any("optimizer" in name for t in theirs.trials for name in t.system_attrs)
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("it unpickles"))
    Worker(ours, space, run, 25).work()
    for a, b in zip(ours.trials, theirs.trials, strict=True):
        assert a.params == pytest.approx(b.params)
    assert not any("optimizer" in name for t in ours.trials for name in t.system_attrs)


def test_cmaes_needs_ranges():
    with pytest.raises(RecipeError, match="at least two ranges"):
        make_sampler("cmaes", Space.parse(["x=uniform(0,1)", "c=a,b"]), 0)


def test_unknown_names_get_the_nearest():
    with pytest.raises(RecipeError) as caught:
        make_sampler("tp", SPACE, 0)
    assert "tpe" in caught.value.hint
    with pytest.raises(RecipeError):
        make_sampler("cmaes", SPACE, 0, objectives=2)
    with pytest.raises(RecipeError) as caught:
        make_pruner("medium", 3)
    assert "median" in caught.value.hint


@pytest.mark.parametrize("pruner", PRUNERS)
def test_pruners_stop_what_is_hopeless(pruner, tmp_path):
    from optuna import TrialPruned

    study = begin(f"sqlite:///{tmp_path}/s.db", sampler="random", pruner=pruner, most_steps=4)

    def run(trial, parameters):
        for step in range(1, 5):
            trial.report(parameters["x"] * step, step)
            if trial.should_prune():
                raise TrialPruned
        return [parameters["x"] * 4]

    Worker(study, SPACE, run, 16).work()
    stopped = [t for t in study.trials if t.state.name == "PRUNED"]
    assert bool(stopped) == (pruner != "none")
    assert study.best_trial.params["x"] == max(t.params["x"] for t in study.trials)


def test_what_it_was_begun_with_is_plain_json(url):
    assert json.loads(json.dumps(begin(url).user_attrs))["optkit"]["space"] == SPACE.to_dict()


def _in_memory(sampler, space=SPACE, seed=0):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    direction = "maximize" if SCORE[0].maximize else "minimize"
    return optuna.create_study(direction=direction, sampler=make_sampler(sampler, space, seed))
