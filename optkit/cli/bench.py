"""`optkit bench`: several models side by side."""

from __future__ import annotations

import shlex
import sys
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import number
from optkit.core.quantities import BOUND_MS, COUNT, COUNT_OR_NONE, FEW, SECONDS, SLOWDOWN
from optkit.errors import RecipeError


def bench(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Artifacts, checkpoints or .onnx files; PATH@RUNTIME picks a runtime. The first is the baseline.")],
    data: Annotated[str | None, typer.Option(help="Labelled data as for compress; without it answers are compared with the first model's.")] = None,
    unlabelled: Annotated[str | None, typer.Option(metavar="FILE", help="Texts without labels to compare answers on. [default: built-in ones]", show_default=False)] = None,
    names: Annotated[str | None, typer.Option(help="Names of the models, separated by commas; default: their folders'.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder to make, for report.json, .md and .html.")] = None,
    shapes: Annotated[str | None, typer.Option(help="Batch x tokens; tokens may be data (own lengths) or text (tokenizer included).")] = None,
    scenario: Annotated[list[str] | None, typer.Option(help="MLPerf scenario: single-stream, multi-stream, offline, server. May be given several times.")] = None,
    p99_ms: Annotated[float | None, number(BOUND_MS, "--p99-ms", help="Latency bound of the server scenario. [default: 100]", show_default=False)] = None,
    mlperf: Annotated[bool, typer.Option("--mlperf", help="The scenarios' full minimum duration (10 minutes each) and early stopping.")] = False,
    self_check: Annotated[bool, typer.Option("--self-check", help="Measure the first model against itself: how often is a difference claimed, and is a known slowdown found?")] = False,
    comparisons: Annotated[int, number(COUNT, help="Comparisons of --self-check.")] = 20,
    slowdown: Annotated[str, typer.Option(help="The slowdown that --self-check injects.")] = "5%",
    split: Annotated[str | None, typer.Option(help="The split that scores are taken on. [default: validation]", show_default=False)] = None,
    limit: Annotated[int | None, number(COUNT, help="Use at most this many examples, drawn over the whole split.")] = None,
    task: Annotated[str | None, typer.Option(help="What the models are for; default: from their architecture.")] = None,
    metric: Annotated[str | None, typer.Option(help="The task's metric; default: its first.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    pair_column: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label.")] = None,
    threads: Annotated[int | None, number(FEW, help="Threads of each model; default: all cores.")] = None,
    cores: Annotated[str | None, typer.Option(help="Cores that all models run on: 0,1 or 0-3; default: any.")] = None,
    precise: Annotated[bool, typer.Option("--precise", help="More processes and rounds: sees differences of 5%, and takes six times as long.")] = False,
    rounds: Annotated[int | None, number(COUNT, help="Timed visits per process and shape.")] = None,
    processes: Annotated[int | None, number(FEW, help="Fresh processes per model.")] = None,
    warmup: Annotated[int | None, number(COUNT_OR_NONE, help="Untimed batches before the first round.")] = None,
    timeout: Annotated[float | None, number(SECONDS, help="Seconds after which a model that does not answer is given up.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code that a checkpoint brings.")] = False,
    verify_key: Annotated[Path | None, typer.Option(help="A public key (PEM) whose owner has to have signed the models; see optkit sign.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print report.json on stdout, all else on stderr.")] = False,
) -> None:  # fmt: skip
    """Measure models side by side: latency, accuracy, memory, scenarios."""
    from optkit.benchmarking.benchmark import benchmark
    from optkit.benchmarking.plan import PRECISE
    from optkit.benchmarking.run_scenarios import Scenarios
    from optkit.cli.terminal import Terminal
    from optkit.tasks.base import Columns

    settings = {
        "rounds": rounds,
        "processes": processes,
        "warmup": warmup,
        "threads": threads,
        "cores": _cores(cores),
        "timeout_s": timeout,
    }
    given = {key: value for key, value in settings.items() if value is not None}
    plan = {**(PRECISE if precise else {}), **given}
    columns = Columns(text_column, pair_column, label_column)
    if self_check:
        ignored = {
            "further models": models[1:],
            "--names": names,
            "--out": out,
            "--scenario": scenario,
            "--p99-ms": p99_ms is not None,
            "--mlperf": mlperf,
            "--unlabelled": unlabelled,
            "--split": split,
            "--limit": limit,
            "--task": task,
            "--metric": metric,
            "--trust-remote-code": trust_remote_code,
            "--verify-key": verify_key,
            "--force": force,
        }
        if received := [name for name, value in ignored.items() if value]:
            raise RecipeError(
                f"Expected --self-check with one model and no scores or report, received {', '.join(received)}.",
                hint="Leave them out, or leave out --self-check.",
            )
    with Terminal(quiet=quiet) as terminal:
        if self_check:
            from optkit.benchmarking.self_check import self_check as check

            found = check(
                models[0],
                slowdown=SLOWDOWN.percentage(slowdown, "--slowdown"),
                comparisons=comparisons,
                data=data,
                columns=columns,
                shape=shapes,
                plan=plan,
                events=terminal,
            )
        else:
            report = benchmark(
                models,
                names=names.split(",") if names else None,
                data=data,
                unlabelled=unlabelled,
                split=split or "validation",
                columns=columns,
                task=task,
                metric=metric,
                limit=limit,
                shapes=shapes.split(",") if shapes else None,
                scenarios=Scenarios(tuple(scenario or ()), 100.0 if p99_ms is None else p99_ms, mlperf),
                plan=plan,
                trust_remote_code=trust_remote_code,
                verify_key=verify_key,
                out=out,
                force=force,
                events=terminal,
                command=shlex.join(["optkit", *sys.argv[1:]]),
            )
    if self_check:
        typer.echo(dumps(found.to_dict(), indent=2) if json else found.sentence())
        return
    terminal.result(report, out, json=json)


def _cores(text: str | None) -> tuple[int, ...] | None:
    """'0,2-3' → (0, 2, 3). Raises RecipeError."""
    from optkit.benchmarking.environment import core_numbers, usable

    if text is None:
        return None
    try:
        found = core_numbers(text)
    except ValueError:
        found = []
    if not found or not set(found) <= usable():
        raise RecipeError(
            f"Expected cores of this machine such as 0,1 or 0-3, received {text!r}.",
            hint=f"This process may use {', '.join(map(str, sorted(usable())))}.",
        )
    return tuple(dict.fromkeys(found))


def register(app: typer.Typer) -> None:
    app.command("bench")(bench)
