"""`Worker`: one of the processes that run the trials of a study until enough are finished.

ask → own → run → tell        a trial of mine
running, its process dead     → waiting again: the next process that asks goes on with it
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optkit.errors import MissingDependency, PassError, RecipeError, WorkerError
from optkit.events import Events, Note, Step, silent
from optkit.training.tuning.lease import ATTEMPTS, BEAT, OWNER, Lease, heartbeat, is_alive
from optkit.training.tuning.space import Space

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


try:
    from optuna import TrialPruned
    from optuna.trial import TrialState
except ImportError:
    raise MissingDependency.of("optuna", "tune") from None

#: A trial's attributes: why it failed, or why it was not run at all.
ERROR, SKIPPED = "error", "skipped"
#: A trial that killed its process so often is not tried again.
MOST_ATTEMPTS = 3
#: So many failures with nothing else before them are the fault of what all trials share.
MOST_FAILURES = 3
#: So many proposals in a row that were tried before: there is nothing new left.
MOST_REPEATS = 50
POLL_S = 2.0

#: Runs a trial with its parameters; gives the objectives' values. Raises TrialPruned to stop it early.
Run = Callable[[Any, dict[str, Any]], Sequence[float]]


@dataclass
class Worker:
    """Run trials of `study` until `total` are finished, over all processes and all runs so far.

    Finished are complete, pruned and failed trials. A trial of a dead process is gone on with, by the
    same number and parameters. Parameters that were tried before are not run again.
    """

    study: optuna.Study
    space: Space
    run: Run
    total: int
    events: Events = silent
    draw: Callable[[optuna.Trial], dict[str, Any]] | None = None
    sleep: Callable[[float], None] = time.sleep
    _repeats: int = 0
    _waits: bool = False

    def work(self) -> None:
        """Return when nothing is left to do, and no other process runs a trial.

        Raises what a trial raised, where that is not the trial's own failure; the trial then waits.
        """
        while True:
            self._take_back()
            trials = self.study.get_trials(deepcopy=False)
            done = [t for t in trials if is_finished(t)]
            running = [t for t in trials if t.state == TrialState.RUNNING]
            exhausted = self._repeats >= MOST_REPEATS
            enough = len(done) >= self.total or exhausted
            if enough and not running:
                if exhausted:
                    text = f"{MOST_REPEATS} proposals in a row had been tried before: nothing new is left"
                    self.events(Note(text))
                return
            if enough or len(done) + len(running) >= self.total:
                self._wait_for(running)
                continue
            self._waits = False
            _check_failures(done)
            self._one(self.study.ask())

    def _one(self, trial: optuna.Trial) -> None:
        me = Lease.me().to_dict()
        attempts = trial.user_attrs.get(ATTEMPTS, 0) + 1
        for name, value in ((OWNER, me), (BEAT, time.time()), (ATTEMPTS, attempts)):
            trial.set_user_attr(name, value)
        if self._is_surplus(trial):
            return self._skip(trial, "enough trials")
        parameters = self.draw(trial) if self.draw else ask(self.space, trial)
        if (same := self._same(trial)) is not None:
            self._repeats += 1
            return self._skip(trial, f"the same as trial {same}")
        self._repeats = 0
        self.events(Step(f"trial {trial.number}: {in_words(trial.params)}"))
        try:
            with heartbeat(trial):
                values = list(self.run(trial, parameters))
        except TrialPruned as reason:
            self._tell(trial, TrialState.PRUNED, said=f"stopped early: {reason}")
        except (PassError, WorkerError, RecipeError) as error:
            trial.set_user_attr(ERROR, str(error).splitlines()[0][:500])
            self._tell(trial, TrialState.FAIL, said=f"failed: {error}")
        except BaseException:  # Ctrl-C, or what no other trial would escape either
            trial.set_user_attr(ATTEMPTS, attempts - 1)
            self._put_back(trial)
            raise
        else:
            self._tell(trial, TrialState.COMPLETE, values, ", ".join(f"{v:.6g}" for v in values))

    def _tell(
        self,
        trial: optuna.Trial,
        state: TrialState,
        values: float | Sequence[float] | None = None,
        said: str = "",
    ) -> None:
        stored = self._stored(trial)
        if stored.state != TrialState.RUNNING or stored.user_attrs.get(OWNER) != Lease.me().to_dict():
            said = "another process took this trial over"  # this one was held dead
        else:
            self.study.tell(trial, values, state=state)
        self.events(Note(f"trial {trial.number}: {said}"))

    def _skip(self, trial: optuna.Trial, why: str) -> None:
        trial.set_user_attr(SKIPPED, why)
        self.study.tell(trial, state=TrialState.FAIL)

    def _is_surplus(self, trial: optuna.Trial) -> bool:
        """Whether processes that asked at the same moment got the last trials before this one."""
        before = [
            t
            for t in self.study.get_trials(deepcopy=False)
            if is_finished(t) or (t.state == TrialState.RUNNING and t.number < trial.number)
        ]
        return len(before) >= self.total

    def _same(self, trial: optuna.Trial) -> int | None:
        """The number of a trial that has been run, or is, with the same parameters."""
        for other in self.study.get_trials(deepcopy=False):
            counts = is_finished(other) or other.state == TrialState.RUNNING
            if counts and other.number < trial.number and other.params == trial.params:
                return other.number
        return None

    def _take_back(self) -> None:
        """Let the trials of dead processes wait for the next one that asks."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if is_alive(trial):
                continue
            if trial.user_attrs.get(ATTEMPTS, 0) >= MOST_ATTEMPTS:
                storage = self.study._storage
                storage.set_trial_user_attr(trial._trial_id, ERROR, f"its process died {MOST_ATTEMPTS} times")
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                continue
            whose = Lease(**trial.user_attrs[OWNER]) if OWNER in trial.user_attrs else "its process"
            text = f"trial {trial.number}: {whose} is gone; going on with it"
            self.events(Note(text))
            self._put_back(trial)

    def _put_back(self, trial: optuna.Trial | FrozenTrial) -> None:
        # Waiting trials are what `ask` gives first; the public way there makes a copy with a new number.
        self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def _stored(self, trial: optuna.Trial) -> FrozenTrial:
        return self.study._storage.get_trial(trial._trial_id)

    def _wait_for(self, running: list[FrozenTrial]) -> None:
        if not self._waits:
            whose = ", ".join(
                f"trial {t.number} ({Lease(**t.user_attrs[OWNER])})" for t in running if OWNER in t.user_attrs
            )
            self.events(Note(f"waiting for {whose}"))
            self._waits = True
        self.sleep(POLL_S)


def ask(space: Space, trial: optuna.Trial) -> dict[str, Any]:
    """A value for every name of `space`."""
    return {name: dimension.suggest(trial, name) for name, dimension in space.dimensions.items()}


def is_finished(trial: FrozenTrial) -> bool:
    """Whether `trial` was run to some end; one that was skipped was not."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or (
        trial.state == TrialState.FAIL and ERROR in trial.user_attrs
    )


def _check_failures(done: list[FrozenTrial]) -> None:
    if len(done) >= MOST_FAILURES and all(t.state == TrialState.FAIL for t in done):
        last = done[-1]
        raise WorkerError(
            f"All of the first {len(done)} trials failed; trial {last.number}: {last.user_attrs[ERROR]}",
            hint="Correct what they share, then begin another study with --study NAME.",
        )


def in_words(parameters: dict[str, Any]) -> str:
    """`parameters` as they are shown.

    >>> in_words({"learning_rate": 0.000123456, "batch": 32})
    'learning_rate 0.0001235, batch 32'
    """
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in parameters.items()
    )
