"""`tune`: a study whose trials are runs of `finetune`; the best checkpoint is kept."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.core.artifact import Artifact
from optkit.core.files import digest
from optkit.core.locks import locked
from optkit.core.output import claimed, delete, named, staged, writing
from optkit.core.process import Child
from optkit.core.quantities import COUNT, SEED
from optkit.data.dataset import Data
from optkit.errors import RecipeError, WorkerError
from optkit.events import Event, Events, Note, Scored, silent
from optkit.models.checkpoint import fetch
from optkit.tasks.base import Columns, task_to_train
from optkit.training.trainer.settings import FinetuneSettings
from optkit.training.tuning import page
from optkit.training.tuning.results import StudyResult, collect
from optkit.training.tuning.space import Space, Value
from optkit.training.tuning.storage import place_of, shown
from optkit.training.tuning.study import Objective, open_study

if TYPE_CHECKING:
    import optuna


#: What is searched where nothing is asked for.
SPACE = (
    "learning_rate=loguniform(2e-5,5e-4)",
    "batch=choice(16,32,64)",
    "epochs=int(2,4)",
    "warmup=uniform(0,0.2)",
    "weight_decay=uniform(0,0.1)",
)


def tune(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    space: Sequence[str] | None = None,
    *,
    trials: int = 20,
    sampler: str = "tpe",
    pruner: str = "median",
    storage: str | None = None,
    study: str | None = None,
    seed: int = 0,
    task: str | None = None,
    columns: Columns = Columns(),
    force: bool = False,
    events: Events = silent,
    command: str = "",
) -> StudyResult:
    """Search hyperparameters of `finetune`; the best checkpoint is kept.

    The same call resumes, joins from another process, or goes on with more `trials`. Trials train on the
    training split and are judged on validation; the test split is not read.

    Parameters:
        model: a pretrained model's folder, or a hub name.
        data: a folder of train and validation files, one file, or a hub data set.
        out: the folder for the best checkpoint.
        space: what to search, once per name: "learning_rate=loguniform(1e-5,1e-3)", "batch=16,32",
            "epochs=int(2,4)"; or the path of a .toml file. What is not in it keeps its default. None:
            learning rate, batch, epochs, warm-up and weight decay.
        trials: finished trials in all, over all processes and runs.
        sampler: tpe, random, grid, cmaes.
        pruner: what stops a hopeless trial after an epoch: median, hyperband, none.
        storage: where the study lives, for all that share it: sqlite:///FILE.db, journal:FILE,
            postgresql://... None: a SQLite file in the folder `out`.study.
        study: name of the study. None: that of `out`.
        seed: the same seed proposes the same trials.
        task: what the model is for. None: the one whose columns the data has.
        columns: which columns of the data hold text, second text and label.
        force: replace `out`.
        events: hears of progress (`optkit.events`).
        command: what the page names as the command that made it.

    Returns all trials, and which is the best.

    Raises RecipeError where the study was begun with another space, model or data, WorkerError where no trial
    came to its end.

    >>> optkit.tune("encoder", "data", "models/best", ["learning_rate=1e-5,1e-4"], trials=2)  # doctest: +SKIP
    """
    out, wanted = named(out), Space.parse(space or SPACE)
    wanted.check([f.name for f in fields(FinetuneSettings)], _accept)
    COUNT.check(trials, "trials")
    SEED.check(seed, "seed")
    folder = out.with_name(f"{out.name}.study")
    url, name = storage or f"sqlite:///{folder / 'study.db'}", study or out.name
    ours = page.is_of(out, name, shown(url))
    with claimed(out, force or ours, (model, data), shared=True, leaves=[folder]):
        source, examples = fetch(model), Data(str(data))
        metric, task = _metric(source, examples, columns, task)
        facts = {
            "task": task,
            "model": source.fingerprint()[:12],
            "data": {split: examples.fingerprint(split)[:12] for split in ("train", "validation")},
            "columns": {k: v for k, v in asdict(columns).items() if v is not None},
        }
        objectives = [Objective(f"validation {metric}", maximize=True)]
        most = max(map(float, wanted.dimensions["epochs"].points()) if "epochs" in wanted.dimensions else [3])  # type: ignore[arg-type]
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        opened = open_study(url, name, wanted, objectives, facts, sampler, pruner, math.ceil(most), seed)
        key = digest(place_of(url, folder), name, facts)
        run = _Trials(opened, str(source.path), str(data), task, columns, folder, key, events)

        from optkit.training.tuning.worker import Worker

        Worker(opened, wanted, run.one, trials, run.events).work()
        run.sweep()
        result = collect(
            opened, url, sampler, pruner, objectives, wanted, {**facts, "data": str(data)}, command
        )
        with locked(folder / "finish"):
            _finish(result, run, out, force or page.is_of(out, name, shown(url)))
        return result


@dataclass
class _Trials:
    """Runs trials, each in a process of its own; on disk only the best trial's checkpoint stays.

    `key` stands for the study and what it was begun with: several may share one `folder`.
    """

    study: optuna.Study
    model: str
    data: str
    task: str
    columns: Columns
    folder: Path
    key: str
    events: Events

    def one(self, trial: optuna.Trial, parameters: dict[str, Any]) -> Sequence[float]:
        """Fine-tune with `parameters`; the best epoch's score. Raises TrialPruned where it is hopeless."""
        self.sweep()
        out, settings = self.place(trial), replace(FinetuneSettings(), **parameters)
        if out.exists():  # its process ended between the checkpoint and the note of it
            return [Artifact.open(out).lineage[-1]["notes"]["score"]]
        with Child("optkit.training.worker", timeout_s=7 * 86400) as child:
            notes = child.call(
                "finetune",
                events=lambda event: self._hear(trial, settings, event),
                model=self.model,
                data=self.data,
                out=str(out),
                settings=asdict(settings),
                columns=asdict(self.columns),
                force=False,
                task=self.task,
            )
        return [notes["score"]]

    def _hear(self, trial: optuna.Trial, settings: FinetuneSettings, event: Event) -> None:
        """Pass progress on; after an epoch ask the pruner. Leaving by an exception ends the child."""
        if not isinstance(event, Scored):
            return self.events(event)
        from optuna import TrialPruned

        step = math.ceil(event.epoch - 1e-6)
        self.events(Note(f"trial {trial.number}, epoch {step}: {event.score:.4f}"))
        with warnings.catch_warnings():  # an epoch that is run again after a kill was reported before
            warnings.simplefilter("ignore")
            trial.report(event.score, step)
        if step < settings.epochs and trial.should_prune():
            raise TrialPruned(f"{event.score:.4f} at epoch {step}")

    def sweep(self) -> None:
        """Delete what finished trials left, but for the best one's checkpoint."""
        from optkit.training.tuning.worker import is_finished

        done = [t for t in self.study.get_trials(deepcopy=False) if is_finished(t)]
        complete = [t for t in done if t.state.name == "COMPLETE"]
        best = max(complete, key=lambda t: (t.value, -t.number), default=None)
        for trial in done:
            folder = self.place(trial)
            if trial is not best:
                shutil.rmtree(folder, ignore_errors=True)
            for rest in self.folder.glob(f".{escape(folder.name)}.*"):
                delete(rest)

    def place(self, trial: optuna.trial.BaseTrial) -> Path:
        """Where the checkpoint of `trial` (Optuna's) lies; another study's never lies there."""
        settings = {**asdict(FinetuneSettings()), **trial.params}
        return self.folder / f"trial-{trial.number:04d}-{digest(self.key, settings)}"


def _accept(name: str, value: Value) -> None:
    try:
        replace(FinetuneSettings(), **{name: value})  # type: ignore[arg-type]
    except TypeError:
        raise RecipeError(f"{name} cannot be {value!r}.") from None


def _metric(source: Artifact, data: Data, columns: Columns, task: str | None) -> tuple[str, str]:
    """What trials are judged by, and for which task; bad data shows here, before any trial."""

    rows = data.split("train")
    goal = task_to_train(task, rows, columns)
    return goal.for_training(source, goal.training_config(rows, columns), None).metric, goal.name


def _finish(result: StudyResult, run: _Trials, out: Path, force: bool) -> None:
    """The best checkpoint at `out`, with the study's page; where it lies elsewhere, the page alone."""
    if not result.best:
        page.save(result, run.folder, "No trial came to its end.")
        raise WorkerError(
            f"No trial came to its end ({result.count()}).", hint=f"See {run.folder / page.PAGE}."
        )
    best = result.trial(result.best[0])
    sentence = (
        f"Trial {best.number} is the best: {result.objectives[0].name} {best.values[0]:.4f}, {best.said}."
    )
    page.save(result, run.folder, sentence)
    folder = run.place(run.study.trials[best.number])
    if not folder.exists():
        text = f"the best trial, {best.number}, ran elsewhere ({best.where}): its checkpoint is there"
        return run.events(Note(text))
    with staged(out, force) as final:
        shutil.copytree(folder, final, dirs_exist_ok=True, copy_function=shutil.copyfile)
        page.save(result, final, sentence)
