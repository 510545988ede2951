"""`optkit search`: which recipe is best for this checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import call, number
from optkit.core.quantities import COUNT, FACTOR, FEW, SEED


def search(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A Hugging Face folder (safetensors) or a hub name.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    data: Annotated[str | None, typer.Option(help="Folder of train/validation files, one file, or a hub data set (name:config). [default: what finetune noted in the checkpoint; without any, answers are compared with the model's own]", show_default=False)] = None,
    unlabelled: Annotated[str | None, typer.Option(metavar="FILE", help="Texts without labels to compare answers on, where there is no data. [default: built-in ones]", show_default=False)] = None,
    min_agreement: Annotated[str | None, typer.Option(help="Least share of answers equal to the model's own, for certain: 95%. [default without data: 90%]", show_default=False)] = None,
    max_drop: Annotated[str, typer.Option(help="Most the score may drop: 1% (relative) or 0.01 (absolute).")] = "1%",
    min_speedup: Annotated[float | None, number(FACTOR, help="Least speedup over torch fp32, at the lower end of its interval.")] = None,
    batch_invariant: Annotated[bool, typer.Option("--batch-invariant", help="Refuse INT8 whose answers depend on the texts in their batch.")] = False,
    objective: Annotated[str, typer.Option(help="What to make small within the gate: latency, size, memory.")] = "latency",
    trials: Annotated[int, number(COUNT, help="Finished trials in all, over all processes and runs.")] = 20,
    space: Annotated[list[str] | None, typer.Option(metavar="NAME=FORM", help="What to search, once per name: prune.share=uniform(0,0.7,0.1), distill.epochs=0,1,3, quantize=none,quantize-dynamic; or a .toml file. Default: pruning, distillation, INT8.")] = None,
    sampler: Annotated[str, typer.Option(help="tpe, random, grid, nsga2.")] = "tpe",
    storage: Annotated[str | None, typer.Option(help="Where the study lives, for all that share it: sqlite:///FILE.db, journal:FILE, postgresql://... [default: OUT.study/study.db]", show_default=False)] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study; default: that of OUT.")] = None,
    seed: Annotated[int, number(SEED, help="The same seed proposes the same trials.")] = 0,
    task: Annotated[str | None, typer.Option(help="What the model is for; default: from its architecture.")] = None,
    metric: Annotated[str | None, typer.Option(help="The task's metric; default: its first.")] = None,
    split: Annotated[str, typer.Option(help="The split that scores are taken on.")] = "validation",
    limit: Annotated[int | None, number(COUNT, help="Score at most this many examples, drawn over the whole split.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    pair_column: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label.")] = None,
    shapes: Annotated[str | None, typer.Option(help="Latency shapes, batch x tokens: 1xdata,1x16; trials are timed at the first.")] = None,
    threads: Annotated[int | None, number(FEW, help="Threads of each runtime; default: all cores.")] = None,
    rounds: Annotated[int | None, number(COUNT, help="Timed visits per process and shape.")] = None,
    processes: Annotated[int | None, number(FEW, help="Fresh processes per candidate.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print report.json on stdout, all else on stderr.")] = False,
) -> None:  # fmt: skip
    """Search a recipe: the score against latency, size or memory, within a gate.

    The same command resumes, joins from another process, or goes on with more --trials. In the end the best trials are measured side by side, and of those that pass the gate the one with the best objective is kept.
    """
    flags = dict(locals())
    import optkit
    from optkit.cli.terminal import Terminal, require_passed
    from optkit.training.tuning import page

    with Terminal(quiet=quiet) as terminal:
        result = call(optkit.search, flags, events=terminal)
    if not json:
        if result.report.fidelity:
            typer.echo(f"{result.report.fidelity[:1].upper()}{result.report.fidelity[1:]}.")
        for line in page.lines(result.study):
            typer.echo(line)
        typer.echo()
    terminal.result(result.report, out, json=json)
    if not json:
        typer.echo(f"study: {out / page.PAGE}")
    require_passed(result.report, out)


def register(app: typer.Typer) -> None:
    app.command("search")(search)
