"""Studies of a function that costs nothing, in a process of their own where a test kills it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from optkit.training.tuning.space import Space
from optkit.training.tuning.study import Objective, open_study
from optkit.training.tuning.worker import Worker

SPACE = Space.parse(["x=uniform(-1,1)", "y=loguniform(0.01,1)", "c=a,b"])
SCORE = [Objective("score", maximize=True)]


def begin(url: str, space: Space = SPACE, sampler: str = "tpe", objectives=SCORE, **options):
    facts = options.pop("facts", {"model": "m1"})
    return open_study(url, "s", space, objectives, facts, sampler, **options)


def score(trial, parameters) -> list[float]:
    """Best at x = 0.5, y = 0.1."""
    return [1 - (parameters["x"] - 0.5) ** 2 - abs(parameters["y"] - 0.1)]


def numbers(study, *states: str) -> list[int]:
    return [t.number for t in study.trials if t.state.name in states]


def main(url: str, total: int, die_at: int, folder: Path) -> None:
    """Run trials; trial `die_at` kills this process once. Below 0: trial 0 waits for a second one."""

    def run(trial, parameters):
        file = folder / f"{trial.number}-{os.getpid()}"
        file.write_text(str(trial.params))
        time.sleep(0.02)
        begun = time.monotonic()
        while die_at < 0 and trial.number == 0 and time.monotonic() < begun + 60:
            if any(not other.name.endswith(f"-{os.getpid()}") for other in folder.iterdir()):
                break
            time.sleep(0.02)
        if trial.number == die_at and len(list(folder.glob(f"{trial.number}-*"))) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return score(trial, parameters)

    Worker(begin(url), SPACE, run, total).work()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
