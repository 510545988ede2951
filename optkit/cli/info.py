"""`optkit info`: what an artifact is and where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def info(
    path: Annotated[Path, typer.Argument(help="An artifact or a checkpoint.")],
    verify_key: Annotated[Path | None, typer.Option(help="A public key (PEM) whose owner has to have signed the model; see optkit sign.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Answer the stored inputs again: exit code 0 where the model answers as it did where it was proven, 4 where not or where nothing is stored.")] = False,
) -> None:  # fmt: skip
    """Show what an artifact is and came from, and verify it."""
    from optkit.core.artifact import SIGNATURE
    from optkit.core.files import plain
    from optkit.models.signing import open_signed

    artifact = open_signed(path, verify_key)
    artifact.verify()
    typer.echo(f"{path}: {artifact.format}, {artifact.precision}, {artifact.size_bytes / 1e6:.1f} MB")
    typer.echo(f"task: {artifact.task or 'not recorded'}")
    typer.echo(f"license: {artifact.manifest.get('license') or 'not stated'}")
    for step in artifact.lineage:
        parameters = ", ".join(f"{k}={plain(v)}" for k, v in step["parameters"].items())
        typer.echo(f"  {step['pass']}({parameters}), {step['seconds']:.1f} s")
    count = len(artifact.manifest["files"])
    typer.echo(f"files: {count} verified" if count else "files: a plain checkpoint, no manifest")
    signed = (artifact.path / SIGNATURE).exists()
    unchecked = f"{SIGNATURE}, not checked without --verify-key" if signed else "none"
    typer.echo(f"signature: {f'by the key of {verify_key}' if verify_key else unchecked}")
    versions = ", ".join(f"{k} {v}" for k, v in artifact.manifest["versions"].items())
    typer.echo(f"made with: {versions}" if count else f"here: {versions}")
    if check:
        from optkit.benchmarking.stored_answers import ask, told

        stored, now = ask(artifact)
        typer.echo(f"proven on: {told(stored.machine)}\nhere: {told(now.machine)}")
        differences = ", ".join(f"{difference:.1e}" for difference in now.differences)
        typer.echo(
            f"check: equal; the {len(now.differences)} stored answers differ by {differences} of the largest "
            f"number (at most {now.allowed:g})"
        )


def register(app: typer.Typer) -> None:
    app.command("info")(info)
