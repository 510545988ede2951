"""Workers: how a study ends, fails, is shared, killed and resumed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from optkit.errors import DataError, PassError, WorkerError
from optkit.events import Note
from optkit.training.tuning import lease
from optkit.training.tuning.space import Space
from optkit.training.tuning.worker import MOST_ATTEMPTS, Worker, is_finished
from tests.training.tuning.studies import SPACE, begin, numbers, score
from tests.training.tuning.test_study import URLS

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(params=URLS)
def url(request, tmp_path) -> str:
    return request.param.format(tmp_path)


@pytest.fixture
def study(tmp_path):
    return begin(f"sqlite:///{tmp_path}/s.db")


def run_script(url, total, die_at, folder) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "tests.training.tuning.studies",
        url,
        str(total),
        str(die_at),
        str(folder),
    ]
    return subprocess.Popen(command, cwd=ROOT)


def test_two_processes_share_one_study_and_each_trial_runs_once(url, tmp_path):
    both = [run_script(url, 24, -1, tmp_path / "ran") for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    ran = [file.name.split("-") for file in (tmp_path / "ran").iterdir()]
    assert len({pid for _, pid in ran}) == 2, "both worked"
    assert len({number for number, _ in ran}) == len(ran) == 24
    study = begin(url)
    assert len(numbers(study, "COMPLETE")) == 24
    assert len({str(t.params) for t in study.trials if is_finished(t)}) == 24, "no proposal came twice"


def test_killed_in_the_middle_it_resumes_to_the_same_end(url, tmp_path):
    assert run_script(url, 8, 3, tmp_path / "ran").wait() == -9
    assert numbers(begin(url), "RUNNING") == [3]
    assert run_script(url, 8, 3, tmp_path / "ran").wait() == 0
    study = begin(url)
    assert numbers(study, "COMPLETE") == list(range(8))
    first, second = ((file.read_text()) for file in (tmp_path / "ran").glob("3-*"))
    assert first == second, "the trial that was killed went on with its own parameters"
    whole = begin(f"sqlite:///{tmp_path}/whole.db")
    Worker(whole, SPACE, score, 8).work()
    assert [t.params for t in study.trials] == [t.params for t in whole.trials]


def test_a_trial_that_kills_its_process_again_and_again_is_given_up(study):
    trial = study.ask()
    for name, value in (("owner", {"host": lease._host(), "pid": 1, "began": "x"}), ("attempts", 3)):
        trial.set_user_attr(name, value)
    Worker(study, SPACE, score, 2).work()
    assert f"died {MOST_ATTEMPTS} times" in study.trials[0].user_attrs["error"]
    assert numbers(study, "COMPLETE") == [1]


def test_signs_of_life_of_another_machine(study):
    trial = study.ask()
    trial.set_user_attr("owner", {"host": "elsewhere/pid:[1]", "pid": 7, "began": "8"})
    trial.set_user_attr("beat", 1000.0)
    assert lease.is_alive(study.trials[0], now=1000.0 + lease.GRACE_S - 1)
    assert not lease.is_alive(study.trials[0], now=1000.0 + lease.GRACE_S + 1)


def test_a_process_that_works_gives_signs_of_life(study):
    trial = study.ask()
    with lease.heartbeat(trial, every_s=0.001):
        while "beat" not in study.trials[0].user_attrs:
            pass


def test_a_process_that_died_before_it_signed(study):
    begun = study.ask().datetime_start.timestamp()
    assert lease.is_alive(study.trials[0], now=begun + 1)
    assert not lease.is_alive(study.trials[0], now=begun + 2 * lease.BEAT_S)


def test_it_waits_for_the_trials_of_others(study):
    trial, heard = study.ask(), []
    trial.set_user_attr("owner", {"host": "elsewhere/x", "pid": 7, "began": "8"})
    trial.set_user_attr("beat", 1e12)

    def sleep(seconds):
        study.tell(trial, 0.5)

    Worker(study, SPACE, score, 1, events=heard.append, sleep=sleep).work()
    assert numbers(study, "COMPLETE") == [0]
    assert heard == [Note("waiting for trial 0 (process 7 on elsewhere)")]


def test_a_failed_trial_counts_and_the_others_go_on(study):
    def run(trial, parameters):
        if trial.number == 1:
            raise PassError("The loss is nan at step 3.")
        return score(trial, parameters)

    Worker(study, SPACE, run, 4).work()
    assert numbers(study, "COMPLETE") == [0, 2, 3]
    assert study.trials[1].user_attrs["error"] == "The loss is nan at step 3."


def test_failures_from_the_beginning_end_it(study):
    def run(trial, parameters):
        raise PassError("no good")

    with pytest.raises(WorkerError, match="first 3 trials failed; trial 2: no good"):
        Worker(study, SPACE, run, 10).work()


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("the data is damaged")])
def test_what_is_no_fault_of_the_trial_leaves_it_to_be_run_again(study, error):
    def run(trial, parameters):
        raise error

    with pytest.raises(type(error) if isinstance(error, DataError) else error):
        Worker(study, SPACE, run, 2).work()
    assert numbers(study, "WAITING") == [0]
    Worker(study, SPACE, score, 2).work()
    assert numbers(study, "COMPLETE") == [0, 1]
    assert study.trials[0].user_attrs["attempts"] == 1, "an interruption is no attempt"


def test_nothing_runs_twice_and_a_space_that_is_exhausted_ends(study):
    space, heard = Space.parse(["x=1,2,3"]), []
    ran = []

    def run(trial, parameters):
        ran.append(parameters["x"])
        return [float(parameters["x"])]

    Worker(study, space, run, 10, events=heard.append).work()
    assert sorted(ran) == [1, 2, 3]
    assert "nothing new is left" in heard[-1].text


def test_more_trials_go_on(study):
    Worker(study, SPACE, score, 2).work()
    Worker(study, SPACE, score, 5).work()
    assert numbers(study, "COMPLETE") == [0, 1, 2, 3, 4]


def test_a_result_of_a_process_that_was_held_dead_is_not_told(study):
    def run(trial, parameters):
        trial.set_user_attr("owner", {"host": "other", "pid": 1, "began": ""})
        study.tell(trial.number, 9.0)
        return [1.0]

    Worker(study, SPACE, run, 1).work()
    assert study.trials[0].value == 9.0
