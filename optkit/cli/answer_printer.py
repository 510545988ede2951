"""What `optkit predict` prints while it answers."""

from __future__ import annotations

import typer

from optkit.events import Answered, Event, Note, Piece


class AnswerPrinter:
    """Prints what a language model writes, and on stderr how many rows are answered, at most once a second."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._printed = 0.0

    def __call__(self, event: Event) -> None:
        match event:
            case Piece(text):
                typer.echo(text, nl=False)
            case Note(text):
                typer.echo(text, err=True)
            case Answered(rows, total, _) if self._first is None:
                self._first = rows
                if rows:
                    typer.echo(f"going on after {rows:,} of {total:,} rows", err=True)
            case Answered(rows, total, seconds) if seconds - self._printed >= 1 or rows == total:
                self._printed = seconds
                rate = (rows - (self._first or 0)) / max(seconds, 1e-9)
                typer.echo(f"{rows:,} of {total:,} rows, {rate:,.0f} a second", err=True)
