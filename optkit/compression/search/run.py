"""`search`: run trials until enough are finished, then confirm the front side by side and keep the best."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from optkit.artifact import MANIFEST, Artifact
from optkit.benchmarking.environment import thread_count
from optkit.benchmarking.evaluation import Evaluator
from optkit.benchmarking.gate import Gate
from optkit.benchmarking.plan import Plan, Shape
from optkit.benchmarking.targets import EAGER
from optkit.compression.compress import conclude
from optkit.compression.measured_on import Examples, examples_of
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
from optkit.compression.search.trial import COSTS, NOTES, TrialLoop, run_chain, timing_turn
from optkit.core.locks import locked
from optkit.core.output import claimed, named, writing
from optkit.core.quantities import COUNT, SEED
from optkit.data.examples import EncodedSet
from optkit.errors import GateFailed, RecipeError, did_you_mean
from optkit.events import Event, Events, Note, Progress, silent
from optkit.models.checkpoint import fetch
from optkit.passes.take_layers import layer_count
from optkit.report.model import Report, Row, quality
from optkit.tasks.base import Columns, open_task
from optkit.training.tuning import page
from optkit.training.tuning.results import StudyResult, TrialResult, collect, front, trial_result
from optkit.training.tuning.space import Space
from optkit.training.tuning.storage import shown
from optkit.training.tuning.study import Objective, open_study
from optkit.training.tuning.worker import Worker, is_finished

#: How the names of models begin that stay, so that more trials need not train them again.
DEAR = "distill-"


def search(
    source: str | Path,
    *,
    data: str | Path | None = None,
    unlabelled: str | Path | None = None,
    out: str | Path,
    space: Sequence[str] | None = None,
    gate: Gate = Gate(),
    objective: str = "latency",
    trials: int = 20,
    sampler: str = "tpe",
    storage: str | None = None,
    study: str | None = None,
    seed: int = 0,
    task: str | None = None,
    metric: str | None = None,
    columns: Columns = Columns(),
    split: str = "validation",
    limit: int | None = None,
    shapes: Sequence[str] | None = None,
    threads: int | None = None,
    rounds: int | None = None,
    processes: int | None = None,
    force: bool = False,
    events: Events = silent,
    command: str = "",
) -> tuple[StudyResult, Report]:
    """Search a recipe for the checkpoint `source`: the score against `objective`, within the gate.

    `space` as `Space.parse` takes it, over the names of `optkit.compression.search.chain`; None: a default
    for this model and the installed engines. `objective` is latency, size or memory. `trials` counts the
    finished trials over all processes and runs; the same call resumes or joins, a larger number goes on. A
    trial's latency is a ratio to the fp32 graph measured beside it; in the end the trials that no other
    beats, and where none of them passes the next best, are measured side by side once more. What passes the
    gate and is smallest by `objective` lies at `out`, with report.* (that measurement) and study.* (all
    trials). Where none passes, the best score is there, and `report.gate["passed"]` is False. Without `data`,
    and where the checkpoint names none, the agreement with the checkpoint's own answers stands for the score,
    on the texts in the file `unlabelled` or on built-in ones; what needs data is not searched.

    Raises DataError where the space asks for that, RecipeError where the study was begun with another space,
    gate, model, data, teacher or texts.

    >>> search("ckpt", data="sst2", out="models/best", trials=30)  # doctest: +SKIP
    """
    begun, begun_at = time.monotonic(), time.time()
    out = named(out)
    if objective not in COSTS:
        raise RecipeError(f"Unknown objective {objective!r}.", hint=did_you_mean(objective, COSTS))
    COUNT.check(trials, "trials")
    SEED.check(seed, "seed")
    folder = out.with_name(f"{out.name}.study")
    url, name = storage or f"sqlite:///{folder / 'study.db'}", study or out.name
    ours = page.is_of(out, name, shown(url))
    with claimed(out, force or ours, (source, data, unlabelled), shared=True, leaves=[folder]):
        checkpoint = fetch(source)
        model_task = open_task(checkpoint, task, metric)
        found = examples_of(checkpoint, data, unlabelled, model_task, columns, split, limit, metric, events)
        examples, blind = found.source, found.ranges is not None
        gate = gate.of_fidelity() if blind else gate
        if space is None:
            space = default_space(_prunable(checkpoint) and not blind, layer_count(checkpoint.config))
        wanted = Space.parse(space)
        check_space(wanted, own_data=not blind)
        evaluator, ranges = _evaluator(found, folder, gate, shapes, threads, rounds, processes, events)
        facts = {
            "task": evaluator.task.name,
            "model": checkpoint.fingerprint()[:12],
            "data": {
                s: examples.fingerprint(s)[:12]
                for s in dict.fromkeys(("train", split))
                if s == split or {"train", "all"} & set(examples.splits)
            },
            "split": f"{len(evaluator.labelled.references)} examples of {split}",
            "columns": {k: v for k, v in asdict(columns).items() if v is not None},
            "gate": gate.describe(),
            **({"teacher or texts": beside} if (beside := read_beside(wanted)) else {}),
            **({"shape": str(evaluator.plan.shapes[0])} if objective == "latency" else {}),
        }
        quality_of = "agreement" if blind else evaluator.task.metric
        objectives = [Objective(quality_of, maximize=True), COSTS[objective]]
        opened = open_study(url, name, wanted, objectives, facts, sampler, seed=seed)
        shared = {
            "checkpoint": checkpoint,
            "data": examples,
            "columns": evaluator.labelled.columns,  # other splits are read by the same ones
            "split": split,
            "work": folder,
            "calibration": ranges,
            "trust_remote_code": False,
            "events": events,
        }
        run = _Study(opened, evaluator, gate, objective, objectives, shared)
        with writing(folder):
            Worker(opened, wanted, run.one, trials, events, lambda trial: ask_chain(wanted, trial)).work()
        result = collect(
            *(opened, url, sampler, "gate", objectives, wanted, {**facts, "data": examples.name}, command)
        )
        with locked(folder / "finish"):
            complete = len(result.complete)
            # Another process of this study may have come to its end before.
            if page.finished_since(out, name, shown(url), begun_at, complete):
                return result, Report.load(out / "report.json")
            again = page.is_of(out, name, shown(url))
            report = run.confirm(result, out, begun, tuple(shapes or ()), force or again, command)
            run.sweep(last=True)
        return result, report


@dataclass
class _Study:
    """The study's trials and its end. `shared` are the fields of `Loop` that all trials have in common."""

    study: Any
    evaluator: Evaluator
    gate: Gate
    objective: str
    objectives: list[Objective]
    shared: dict[str, Any]
    baseline: str = ""

    @property
    def folder(self) -> Path:
        return self.shared["work"]

    def one(self, trial: Any, parameters: dict[str, Any]) -> list[float]:
        """[score, cost]; raises TrialPruned where the gate is out of reach."""
        self.sweep()
        chain = chain_of(parameters)
        plan = replace(self.evaluator.plan, shapes=self.evaluator.plan.shapes[:1], redraws=0)
        with TrialLoop(
            recipe=Recipe(chain, self.gate),
            evaluator=replace(self.evaluator, plan=plan),
            objective=self.objective,
            **{**self.shared, "events": self._less},
        ) as loop:
            return run_chain(loop, chain, trial)

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
        with ExitStack() as used:
            measured = []
            for finalists in rounds:
                loop = used.enter_context(self._side_by_side(finalists))
                measured.append((loop, finalists))
                chosen = loop.choose(shapes)
                if chosen is not None and chosen.verdict == "passed":
                    break
                if finalists is not rounds[-1]:
                    text = "none of these passed the gate; the next best are measured"
                    self.shared["events"](Note(text))
            else:  # nothing passed: the best score is better than none
                loop, finalists = max(measured, key=lambda pair: _best_score(pair[0].choose(shapes)))
                chosen = loop.choose(shapes)
            named = {title_of(t): t for t in finalists}
            if chosen is not None:
                loop.recipe = Recipe(chain_of(named[chosen.name].parameters), self.gate)
            source = str(self.shared["checkpoint"].path)
            report = conclude(loop, source, out, shapes, begun, force, keep_steps=True, command=command)
        sentence = f"No trial passed the gate ({report.gate['conditions']})."
        first = f"{report.fidelity[:1].upper()}{report.fidelity[1:]}. " if report.fidelity else ""
        if report.chosen and report.gate["passed"]:
            sentence = f"Trial {named[report.chosen].number} is chosen: {named[report.chosen].said}."
            if missed := [str(t.number) for _, before in measured[:-1] for t in before]:
                sentence += f" Measured before it, these missed the gate: {', '.join(missed)}."
        for place in (out, self.folder):
            page.save(result, place, first + sentence)
        return report

    @contextmanager
    def _side_by_side(self, finalists: list[TrialResult]) -> Iterator[TrialLoop]:
        """Both baselines and the models of `finalists`, measured over all shapes and judged by the gate."""
        chains = {title_of(t): chain_of(t.parameters) for t in finalists}
        chain = next(iter(chains.values()))
        # Nothing is hopeless here: a model that misses the gate is better than none.
        lenient = Recipe(chain, replace(self.gate, max_drop=None, min_agreement=None))
        loop = TrialLoop(recipe=lenient, evaluator=self.evaluator, objective=self.objective, **self.shared)
        with loop:
            root = loop.baselines(list(chains.values()))
            self.baseline = Path(loop.candidates[1].artifact).name
            for title, steps in chains.items():
                loop.candidate(steps, root, title).parent = EAGER
            loop.rows = [*loop.rows[:2], *(row for row in loop.rows[2:] if row.name in loop.leaves)]
            loop.candidates = [c for c in loop.candidates if c.name in {row.name for row in loop.rows}]
            loop.recipe = Recipe(chain, self.gate)
            with locked(timing_turn()):
                loop.conclude()
            yield loop

    def sweep(self, last: bool = False) -> None:
        """Delete the models that another trial beats; at the `last` all that no front needs but what training
        made, which is dear to make again. What a process uses stays."""
        trials = [trial_result(t) for t in self.study.get_trials(deepcopy=False) if is_finished(t)]
        folders = {t.number: (t.notes.get(NOTES) or {}).get("folder", "") for t in trials}
        kept = {folders[number] for number in front(trials, self.objectives)} | {self.baseline}
        if last:
            found = {p.name for p in self.folder.iterdir() if (p / MANIFEST).exists()} - kept
            gone = {name for name in found if not name.startswith(DEAR)}
        else:  # an exported graph may be what another process quantizes at this moment
            beaten = {folders[t.number] for t in trials if t.state == "complete"} - kept
            gone = {name for name in beaten if name and not name.startswith(EXPORT)}
        for name in gone:
            delete(self.folder / name)

    def _less(self, event: Event) -> None:
        """Trials speak through the worker; of their steps only progress is passed on."""
        if isinstance(event, Progress):
            self.shared["events"](event)


def _best_score(chosen: Row | None) -> float:
    return -math.inf if chosen is None else quality(chosen)


def _prunable(checkpoint: Artifact) -> bool:
    from optkit.models.uneven.layout import LAYOUTS

    return checkpoint.config.get("model_type") in LAYOUTS


def _evaluator(
    found: Examples,
    folder: Path,
    gate: Gate,
    shapes: Sequence[str] | None,
    threads: int | None,
    rounds: int | None,
    processes: int | None,
    events: Events,
) -> tuple[Evaluator, Path | None]:
    """What measures every model of the study, and a file to take ranges from where there is no data.

    The examples lie in `folder`, their hash in the name.
    """
    task, labelled = found.task, found.labelled
    given: dict[str, Any] = {k: v for k, v in (("rounds", rounds), ("processes", processes)) if v}
    plan = Plan(
        shapes=tuple(Shape.parse(s) for s in shapes or task.shapes), threads=thread_count(threads), **given
    )

    def saved(what: str, encoded: EncodedSet) -> Path:
        file = folder / f"{what}-{encoded.digest()[:12]}.npz"
        with locked(file):
            if not file.exists():
                encoded.save(file)
        return file

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = saved("examples", labelled.encoded)
        ranges = None if found.ranges is None else saved("calibration", found.ranges)
    asks = gate.min_agreement is not None
    return Evaluator(task, labelled, file, plan, events, asks_agreement=asks), ranges
