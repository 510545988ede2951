"""`optkit bench`: several models side by side."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from optkit.cli.parameters import call, number
from optkit.core.quantities import BOUND_MS, COUNT, COUNT_OR_NONE, FEW, SECONDS
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
    flags = dict(locals())
    import optkit
    from optkit.cli.terminal import Terminal

    if self_check:
        _self_check(flags)
        return
    for name in ("self_check", "comparisons", "slowdown"):
        del flags[name]
    with Terminal(quiet=quiet) as terminal:
        report = call(optkit.bench, flags, events=terminal)
    terminal.result(report, out, json=json)


#: Flags that say nothing about a model beside itself.
_NOT_CHECKED = (
    *("names", "out", "scenario", "p99_ms", "mlperf", "unlabelled", "split", "limit", "task", "metric"),
    *("trust_remote_code", "verify_key", "force"),
)


def _self_check(flags: dict[str, Any]) -> None:
    """The harness on one model, beside itself. Raises RecipeError for flags that it would ignore."""
    import optkit
    from optkit.benchmarking.plan import fields_of
    from optkit.cli.terminal import Terminal

    ignored = {f"--{name.replace('_', '-')}": flags[name] not in (None, False) for name in _NOT_CHECKED}
    received = [name for name, given in ({"further models": flags["models"][1:]} | ignored).items() if given]
    if received:
        raise RecipeError(
            f"Expected --self-check with one model and no scores or report, received {', '.join(received)}.",
            hint="Leave them out, or leave out --self-check.",
        )
    measuring = ("precise", "threads", "cores", "rounds", "processes", "warmup", "timeout")
    columns = optkit.Columns(flags["text_column"], flags["pair_column"], flags["label_column"])
    with Terminal(quiet=flags["quiet"]) as terminal:
        checked = optkit.self_check(
            flags["models"][0],
            slowdown=flags["slowdown"],
            comparisons=flags["comparisons"],
            data=flags["data"],
            columns=columns,
            shape=flags["shapes"],
            plan=fields_of(**{name: flags[name] for name in measuring}),
            events=terminal,
        )
    typer.echo(dumps(checked.to_dict(), indent=2) if flags["json"] else checked.sentence())


def register(app: typer.Typer) -> None:
    app.command("bench")(bench)
