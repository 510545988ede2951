"""`bench`: the public verb, which turns what a caller asks for into the plan of `benchmark`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from optkit.benchmarking.benchmark import benchmark
from optkit.benchmarking.plan import fields_of
from optkit.benchmarking.run_scenarios import Scenarios
from optkit.core.quantities import listed
from optkit.events import Events, silent
from optkit.report.model import Report
from optkit.tasks.base import Columns


def bench(
    models: Sequence[str],
    *,
    data: str | Path | None = None,
    unlabelled: str | Path | None = None,
    names: str | Sequence[str] | None = None,
    out: str | Path | None = None,
    shapes: str | Sequence[str] | None = None,
    scenario: Sequence[str] | None = None,
    p99_ms: float | None = None,
    mlperf: bool = False,
    split: str | None = None,
    limit: int | None = None,
    task: str | None = None,
    metric: str | None = None,
    columns: Columns = Columns(),
    threads: int | None = None,
    cores: str | Sequence[int] | None = None,
    precise: bool = False,
    rounds: int | None = None,
    processes: int | None = None,
    warmup: int | None = None,
    timeout: float | None = None,
    trust_remote_code: bool = False,
    verify_key: str | Path | None = None,
    force: bool = False,
    events: Events = silent,
    command: str = "",
) -> Report:
    """Measure models side by side: latency, accuracy, memory, scenarios.

    Parameters:
        models: folders of artifacts or checkpoints, or .onnx files; `PATH@RUNTIME` picks a runtime. The first
            is the baseline of every ratio.
        data: labelled data as for `compress`. None: answers are compared with the first model's.
        unlabelled: a file of texts without labels to compare answers on. None: built-in ones.
        names: what the report calls the models, a list or separated by commas. None: as their folders.
        out: a folder to make, for report.json, .md and .html. None: nothing is written.
        shapes: batch x tokens, a list or separated by commas; tokens may be `data` (the data's own lengths)
            or `text` (tokenizer included).
        scenario: MLPerf scenarios: single-stream, multi-stream, offline, server.
        p99_ms: the latency bound of the server scenario, in milliseconds. None: 100.
        mlperf: the scenarios' full minimum duration (10 minutes each) and early stopping.
        split: the split that scores are taken on. None: validation.
        limit: the most examples to use, drawn over the whole split. None: all.
        task: what the models are for. None: from their architecture.
        metric: the task's metric. None: its first.
        columns: which columns of the data hold text, second text and label.
        threads: threads of each model. None: one for each core.
        cores: the cores that all models run on, such as "0,2-3" or [0, 2, 3]. None: any.
        precise: more processes and rounds: sees differences of 5%, and takes six times as long.
        rounds: timed visits per process and shape. None: 6, with `precise` 20.
        processes: fresh processes per model. None: 2, with `precise` 8.
        warmup: untimed batches before the first round. None: 3.
        timeout: seconds after which a model that does not answer is given up. None: 600.
        trust_remote_code: whether code that a checkpoint brings may run.
        verify_key: a public key (PEM) whose owner has to have signed the models.
        force: replace `out`.
        events: hears of progress (`optkit.events`).
        command: what the report names as the command that made it.

    Returns a report with one row per model; one that crashes, hangs or runs out of memory has a row of
    verdict `error`.

    Raises WorkerError when all of them failed, CheckpointError, DataError or RecipeError for what cannot be
    measured at all.

    >>> import optkit
    >>> report = optkit.bench(["models/fp32", "models/int8"], data="sst2")  # doctest: +SKIP
    >>> report.rows[1].speedup  # doctest: +SKIP
    Interval(value=2.0, low=1.8, high=2.2)
    """
    return benchmark(
        models,
        names=None if names is None else listed(names),
        data=data,
        unlabelled=unlabelled,
        split=split or "validation",
        columns=columns,
        task=task,
        metric=metric,
        limit=limit,
        shapes=listed(shapes) or None,
        scenarios=Scenarios(tuple(scenario or ()), 100.0 if p99_ms is None else p99_ms, mlperf),
        plan=fields_of(precise, threads, cores, rounds, processes, warmup, timeout),
        trust_remote_code=trust_remote_code,
        verify_key=verify_key,
        out=out,
        force=force,
        events=events,
        command=command,
    )
