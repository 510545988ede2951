"""`optkit compress`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optkit.cli.parameters import call, number
from optkit.core.quantities import COUNT, EPOCHS, FACTOR, FEW, PART


def compress(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A Hugging Face folder (safetensors) or a hub name.")],
    data: Annotated[str | None, typer.Option(help="Folder of train/validation files, one file, or a hub data set (name:config). [default: what finetune noted in the checkpoint; without any, answers are compared with the model's own]", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="The folder to make. [default: models/NAME-int8]", show_default=False)] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Try INT8 in every installed CPU engine, keep the fastest that passes.")] = False,
    prune: Annotated[float | None, number(PART, metavar="SHARE", help="Remove this share of the encoder's FLOPs first: 0.6 removes 60%.")] = None,
    distill: Annotated[bool, typer.Option("--distill", help="Then train what is left to answer as the unpruned model does.")] = False,
    epochs: Annotated[float | None, number(EPOCHS, help="With --distill: passes over the texts. [default: 3]", show_default=False)] = None,
    layers: Annotated[int | None, number(COUNT, help="With --distill: a student of so many of the layers.")] = None,
    teacher: Annotated[str | None, typer.Option(help="With --distill: another model to learn from.")] = None,
    unlabelled: Annotated[str | None, typer.Option(metavar="FILE", help="Texts without labels to compare answers on, where there is no data; with --distill: more texts to learn from.")] = None,
    prune_vocabulary: Annotated[bool, typer.Option("--prune-vocabulary", help="Drop the tokens that the training data never uses.")] = False,
    runtime: Annotated[str | None, typer.Option(help="With --int8: this engine only (onnxruntime, openvino).")] = None,
    batch_invariant: Annotated[bool, typer.Option("--batch-invariant", help="Refuse INT8 whose answers depend on the texts in their batch.")] = False,
    recipe: Annotated[Path | None, typer.Option(help="A recipe in TOML or JSON instead.")] = None,
    min_agreement: Annotated[str | None, typer.Option(help="Least share of answers equal to the model's own, for certain: 95%. [default without data: 90%]", show_default=False)] = None,
    max_drop: Annotated[str | None, typer.Option(help="Most the score may drop: 1% (relative) or 0.01 (absolute). [default: 1%]", show_default=False)] = None,
    min_speedup: Annotated[float | None, number(FACTOR, help="Least speedup over torch fp32, at the lower end of its interval.")] = None,
    target: Annotated[str | None, typer.Option(help="Where it will serve: cpu, or cuda, which tries every way this machine has for its GPU. [default: the recipe's]", show_default=False)] = None,
    task: Annotated[str | None, typer.Option(help="What the model is for; default: from its architecture.")] = None,
    metric: Annotated[str | None, typer.Option(help="The task's metric; default: its first.")] = None,
    split: Annotated[str, typer.Option(help="The split that scores are taken on.")] = "validation",
    limit: Annotated[int | None, number(COUNT, help="Score at most this many examples, drawn over the whole split.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    pair_column: Annotated[str | None, typer.Option(help="Column of the second text.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the label.")] = None,
    shapes: Annotated[str | None, typer.Option(help="Latency shapes, batch x tokens: 1xdata,1x16,8x128.")] = None,
    threads: Annotated[int | None, number(FEW, help="Threads of each runtime; default: all cores.")] = None,
    precise: Annotated[bool, typer.Option("--precise", help="More processes and rounds: sees differences of 5%, and timing takes six times as long.")] = False,
    rounds: Annotated[int | None, number(COUNT, help="Timed visits per process and shape.")] = None,
    processes: Annotated[int | None, number(FEW, help="Fresh processes per candidate.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output folder.")] = False,
    keep_steps: Annotated[bool, typer.Option("--keep-steps", help="Keep every step's artifact beside the output.")] = False,
    tune_runtime: Annotated[bool, typer.Option("--tune-runtime", help="Search threads, spinning, arena and the like of the chosen model, by measurement.")] = False,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code that the checkpoint brings.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print report.json on stdout, all else on stderr.")] = False,
) -> None:  # fmt: skip
    """Compress, measure every step, keep the fastest that passes."""
    flags = dict(locals())
    import optkit
    from optkit.cli.terminal import Terminal, require_passed

    with Terminal(quiet=quiet) as terminal:
        report = call(optkit.compress, flags, events=terminal)
    saved = terminal.saved or out
    terminal.result(report, saved, json=json)
    require_passed(report, saved)


def register(app: typer.Typer) -> None:
    app.command("compress")(compress)
