"""`search`: run trials until enough are finished, then confirm the front side by side and keep the best."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.benchmarking.gate import Gate
from optkit.benchmarking.targets import EAGER
from optkit.compression.chain import MeasuredRows, baselines, judge, measure, tuned_chain
from optkit.compression.conclusion import conclude
from optkit.compression.job import Job, open_job
from optkit.compression.recipe import Recipe
from optkit.compression.search.chain import (
    EXPORT,
    ask_chain,
    chain_of,
    check_space,
    default_space,
    read_beside,
)
from optkit.compression.search.finalists import rounds_of, title_of
from optkit.compression.search.models import delete
from optkit.compression.search.trial import COSTS, NOTES, chain_models, choose, run_trial, timing_turn
from optkit.compression.store import Store
from optkit.core.artifact import MANIFEST, Artifact
from optkit.core.locks import locked
from optkit.core.output import claimed, named, writing
from optkit.core.quantities import COUNT, SEED, listed
from optkit.errors import GateFailed, RecipeError, did_you_mean
from optkit.events import Event, Events, Note, Progress, silent
from optkit.passes.take_layers import layer_count
from optkit.report.model import Report, Row, quality
from optkit.tasks.base import Columns
from optkit.training.tuning import page
from optkit.training.tuning.results import StudyResult, TrialResult, collect, front, trial_result
from optkit.training.tuning.space import Space
from optkit.training.tuning.storage import shown
from optkit.training.tuning.study import Objective, open_study
from optkit.training.tuning.worker import Worker, is_finished

if TYPE_CHECKING:
    import optuna


#: How the names of models begin that stay, so that more trials need not train them again.
DEAR = "distill-"


@dataclass(frozen=True)
class SearchResult:
    """The study's trials, and the report of its best ones, measured side by side."""

    study: StudyResult
    report: Report


def search(
    checkpoint: str | Path,
    out: str | Path,
    *,
    data: str | Path | None = None,
    unlabelled: str | Path | None = None,
    min_agreement: str | float | None = None,
    max_drop: str | float | None = "1%",
    min_speedup: float | None = None,
    batch_invariant: bool = False,
    objective: str = "latency",
    trials: int = 20,
    space: Sequence[str] | None = None,
    sampler: str = "tpe",
    storage: str | None = None,
    study: str | None = None,
    seed: int = 0,
    task: str | None = None,
    metric: str | None = None,
    split: str = "validation",
    limit: int | None = None,
    columns: Columns = Columns(),
    shapes: str | Sequence[str] | None = None,
    threads: int | None = None,
    rounds: int | None = None,
    processes: int | None = None,
    force: bool = False,
    events: Events = silent,
    command: str = "",
) -> SearchResult:
    """Search a recipe: the score against latency, size or memory, within a gate.

    The same call resumes, joins from another process, or goes on with more `trials`. A trial's latency is a
    ratio to the fp32 graph measured beside it; in the end the trials that no other beats, and where none of
    them passes the next best, are measured side by side once more, and of those that pass the gate the one
    with the best objective is kept. Without data the agreement with the checkpoint's own answers stands for
    the score, and what needs data is not searched.

    Parameters:
        checkpoint: a Hugging Face folder (safetensors) or a hub name.
        out: the folder to make, with report.* (the last measurement) and study.* (all trials).
        data: a folder of train and validation files, one file, or a hub data set (name:config). None: what
            `finetune` noted in the checkpoint, else none.
        unlabelled: a file of texts without labels to compare answers on, where there is no data. None:
            built-in ones.
        min_agreement: least share of answers equal to the model's own, for certain: "95%". None: without data
            90%.
        max_drop: most the score may drop: "1%" (relative) or 0.01 (absolute). None: any will do.
        min_speedup: least speedup over torch fp32, at the lower end of its interval.
        batch_invariant: refuse INT8 whose answers depend on the texts in their batch.
        objective: what to make small within the gate: latency, size, memory.
        trials: finished trials in all, over all processes and runs.
        space: what to search, once per name: "prune.share=uniform(0,0.7,0.1)", "distill.epochs=0,1,3",
            "quantize=none,quantize-dynamic"; or the path of a .toml file. None: pruning, distillation, INT8.
        sampler: tpe, random, grid, nsga2.
        storage: where the study lives, for all that share it: sqlite:///FILE.db, journal:FILE,
            postgresql://... None: a SQLite file in the folder `out`.study.
        study: name of the study. None: that of `out`.
        seed: the same seed proposes the same trials.
        task: what the model is for. None: from its architecture.
        metric: the task's metric. None: its first.
        split: the split that scores are taken on.
        limit: score at most this many examples, drawn over the whole split.
        columns: which columns of the data hold text, second text and label.
        shapes: latency shapes, batch x tokens: "1xdata,1x16", or a list; trials are timed at the first.
        threads: threads of each runtime. None: all cores.
        rounds: timed visits per process and shape.
        processes: fresh processes per candidate.
        force: replace `out`.
        events: hears of progress (`optkit.events`).
        command: what the pages name as the command that made them.

    Returns trials and report. Where nothing passes the gate, the best score lies in `out`, and the report's
    gate says that it did not pass.

    Raises DataError where `space` needs data, RecipeError where the study was begun with another space, gate,
    model, data, teacher or texts, GateFailed where no trial made a model.

    >>> import optkit
    >>> optkit.search("ckpt", "models/best", data="sst2", trials=30).report.chosen  # doctest: +SKIP
    """
    gate = Gate.parse(max_drop, min_speedup, min_agreement, batch_invariant)
    shapes = listed(shapes)
    begun, begun_at = time.monotonic(), time.time()
    out = named(out)
    if objective not in COSTS:
        raise RecipeError(f"Unknown objective {objective!r}.", hint=did_you_mean(objective, COSTS))
    COUNT.check(trials, "trials")
    SEED.check(seed, "seed")
    folder = out.with_name(f"{out.name}.study")
    url, name = storage or f"sqlite:///{folder / 'study.db'}", study or out.name
    ours = page.is_of(out, name, shown(url))
    with claimed(out, force or ours, (checkpoint, data, unlabelled), shared=True, leaves=[folder]):
        job = open_job(
            *(checkpoint, data, unlabelled, folder),
            task=task,
            metric=metric,
            columns=columns,
            split=split,
            limit=limit,
            shapes=shapes,
            threads=threads,
            rounds=rounds,
            processes=processes,
            events=events,
            asks_agreement=gate.min_agreement is not None,
        )
        own_data = job.ranges is None
        gate = gate if own_data else gate.of_fidelity()
        if space is None:
            space = default_space(own_data and _prunable(job.source), layer_count(job.source.config))
        wanted = Space.parse(space)
        check_space(wanted, own_data)
        job.save_examples()
        facts = {
            "task": job.task.name,
            "model": job.source.fingerprint()[:12],
            "data": {
                s: job.data.fingerprint(s)[:12]
                for s in dict.fromkeys(("train", split))
                if s == split or {"train", "all"} & set(job.data.splits)
            },
            "split": f"{job.examples} examples of {split}",
            "columns": {k: v for k, v in asdict(columns).items() if v is not None},
            "gate": gate.describe(),
            **({"teacher or texts": beside} if (beside := read_beside(wanted)) else {}),
            **({"shape": str(job.evaluator.plan.shapes[0])} if objective == "latency" else {}),
        }
        quality_of = job.task.metric if own_data else "agreement"
        objectives = [Objective(quality_of, maximize=True), COSTS[objective]]
        opened = open_study(url, name, wanted, objectives, facts, sampler, seed=seed)
        store = Store.of(job)
        run = _Study(opened, job, store, gate, objective, objectives)
        with writing(folder):
            Worker(opened, wanted, run.one, trials, events, lambda trial: ask_chain(wanted, trial)).work()
        result = collect(
            *(opened, url, sampler, "gate", objectives, wanted, {**facts, "data": job.data.name}, command)
        )
        with locked(folder / "finish"):
            complete = len(result.complete)
            # Another process of this study may have come to its end before.
            if page.finished_since(out, name, shown(url), begun_at, complete):
                return SearchResult(result, Report.load(out / "report.json"))
            again = page.is_of(out, name, shown(url))
            report = run.confirm(result, out, begun, shapes, force or again, command)
            run.sweep(store.folders(tuned_chain(job.evaluator.target))[-1].name)
        return SearchResult(result, report)


@dataclass(frozen=True)
class _Study:
    """The study's trials and its end."""

    study: optuna.Study
    job: Job
    store: Store
    gate: Gate
    objective: str
    objectives: list[Objective]

    @property
    def folder(self) -> Path:
        return self.store.folder

    def one(self, trial: optuna.Trial, parameters: dict[str, Any]) -> list[float]:
        """[score, cost]; raises TrialPruned where the gate is out of reach."""
        self.sweep()
        plan = replace(self.job.evaluator.plan, shapes=self.job.evaluator.plan.shapes[:1], redraws=0)
        job = replace(self.job, evaluator=replace(self.job.evaluator, plan=plan, events=self._less))
        with replace(self.store, shared=True) as store:
            return run_trial(job, store, self.gate, self.objective, chain_of(parameters), trial)

    def confirm(
        self, result: StudyResult, out: Path, begun: float, shapes: tuple[str, ...], force: bool, command: str
    ) -> Report:
        """Measure the finalists side by side until one passes the gate, and write the chosen one to `out`."""
        rounds = rounds_of(result)
        if not rounds:
            page.save(result, self.folder, "No trial came to its end.")
            raise GateFailed(
                f"No trial made a model ({result.count()}).", hint=f"See {self.folder / page.PAGE}."
            )
        with replace(self.store, shared=True) as store:
            tried: list[_Round] = []
            for finalists in rounds:
                tried.append(last := self._side_by_side(store, finalists, shapes))
                if last.passed:
                    break
                if finalists is not rounds[-1]:
                    self.job.events(Note("none of these passed the gate; the next best are measured"))
            else:  # nothing passed: the best score is better than none
                last = max(tried, key=lambda one: -math.inf if one.chosen is None else quality(one.chosen))
            trials = {title_of(t): t for t in last.finalists}
            chosen = trials[last.chosen.name] if last.chosen is not None else last.finalists[0]
            report = conclude(
                *(self.job, Recipe(chain_of(chosen.parameters), self.gate), last.measured, last.rows),
                *(list(trials), last.chosen, last.why),
                source=str(self.job.source.path),
                out=out,
                begun=begun,
                force=force,
                keep_steps=True,
                command=command,
            )
        sentence = f"No trial passed the gate ({self.gate.describe()})."
        first = f"{report.fidelity[:1].upper()}{report.fidelity[1:]}. " if report.fidelity else ""
        if last.passed:
            sentence = f"Trial {chosen.number} is chosen: {chosen.said}."
            if missed := [str(t.number) for one in tried[:-1] for t in one.finalists]:
                sentence += f" Measured before it, these missed the gate: {', '.join(missed)}."
        for folder in (out, self.folder):
            page.save(result, folder, first + sentence)
        return report

    def _side_by_side(self, store: Store, finalists: list[TrialResult], shapes: tuple[str, ...]) -> _Round:
        """Both baselines and the models of `finalists`, measured over all shapes and judged by the gate."""
        models = baselines(self.job, store)
        chains = {title_of(trial): chain_of(trial.parameters) for trial in finalists}
        for title, chain in chains.items():
            *_, model = chain_models(self.job, store, chain, title)
            models[title] = replace(model, parent=EAGER)
        with locked(timing_turn()):
            measured = measure(self.job, models.values(), chains)
        rows = judge(self.job, self.gate, measured.rows, chains)
        chosen, why = choose(rows, list(chains), self.objective, shapes, measured.measurement)
        return _Round(finalists, measured, rows, chosen, why)

    def sweep(self, baseline: str = "") -> None:
        """Delete the models that another trial beats; in the end, where the folder of the tuned `baseline` is
        named, all that no front needs but what training made, which is dear to make again. What a process
        uses stays."""
        trials = [trial_result(t) for t in self.study.get_trials(deepcopy=False) if is_finished(t)]
        folders = {t.number: (t.notes.get(NOTES) or {}).get("folder", "") for t in trials}
        needed = {folders[number] for number in front(trials, self.objectives)} | {baseline}
        if baseline:
            there = {p.name for p in self.folder.iterdir() if (p / MANIFEST).exists()} - needed
            gone = {name for name in there if not name.startswith(DEAR)}
        else:  # an exported graph may be what another process quantizes at this moment
            beaten = {folders[t.number] for t in trials if t.state == "complete"} - needed
            gone = {name for name in beaten if name and not name.startswith(EXPORT)}
        for name in gone:
            delete(self.folder / name)

    def _less(self, event: Event) -> None:
        """Trials speak through the worker; of their steps only progress is passed on."""
        if isinstance(event, Progress):
            self.job.events(event)


@dataclass(frozen=True)
class _Round:
    """Finalists that were measured side by side, and which of them is `chosen`."""

    finalists: list[TrialResult]
    measured: MeasuredRows
    rows: list[Row]
    chosen: Row | None
    why: str

    @property
    def passed(self) -> bool:
        return self.chosen is not None and self.chosen.verdict == "passed"


def _prunable(checkpoint: Artifact) -> bool:
    from optkit.models.uneven.layout import LAYOUTS

    return checkpoint.config.get("model_type") in LAYOUTS
