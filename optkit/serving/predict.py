"""`predict`: the public verb, for a few texts or a whole file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optkit.core.files import lines_of
from optkit.core.quantities import listed
from optkit.data.tables.read import ENDINGS
from optkit.errors import DataError, RecipeError
from optkit.events import Events, Piece, silent
from optkit.models.adapter import merged_or_whole
from optkit.serving.inputs import KINDS
from optkit.serving.offline import CHUNK, Job, predict_file
from optkit.serving.predictor import Predictor, load
from optkit.tasks.base import Columns
from optkit.tasks.labelled import Answer


@dataclass(frozen=True)
class Predictions:
    """`answers` to `texts`, typed by the model's task; the same as `lines` to read and `records` for JSON.

    Those of a whole file lie in `output` instead: `rows` of them, `answered` by this call in `seconds`.
    """

    texts: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    lines: tuple[str, ...] = ()
    records: tuple[dict[str, Any], ...] = ()
    output: Path | None = None
    rows: int = 0
    answered: int = 0
    seconds: float = 0.0


def predict(
    path: str | Path,
    texts: Sequence[str] | None = None,
    *,
    input: str | Path | None = None,
    output: str | Path | None = None,
    columns: Columns = Columns(),
    keep: str | Sequence[str] | None = None,
    chunk: int = CHUNK,
    ray: bool = False,
    threads: int | None = None,
    verify_key: str | Path | None = None,
    force: bool = False,
    runtime: str | None = None,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stream: bool = False,
    prompt_name: str | None = None,
    prompt: str | None = None,
    truncate_dim: int | None = None,
    normalize: bool = False,
    precision: str | None = None,
    ranges: str | Path | None = None,
    language: str | None = None,
    translate: bool = False,
    timestamps: bool = False,
    events: Events = silent,
) -> Predictions:
    """Answer texts, or a whole file of them; a language model writes on after each text.

    To answer often, `optkit.load` the model once.

    Parameters:
        path: an artifact's or a checkpoint's folder.
        texts: the texts. None: those of `input`.
        input: a file with one text per line; with `output` also .jsonl and .parquet.
        output: write the answers here (.jsonl, .parquet), at constant memory; a run that was killed goes on.
        columns: with `output`: which columns hold the text and the second text. None: by their names.
        keep: with `output`: input columns to copy, a list or separated by commas. None: the text.
        chunk: with `output`: rows answered and written at a time.
        ray: with `output`: spread the chunks over a Ray cluster (RAY_ADDRESS) or this machine's cores.
        threads: threads of the runtime. None: one for each core, with `ray` one.
        verify_key: a public key (PEM) whose owner has to have signed the model.
        force: replace `output`.
        runtime: run on this runtime instead of the stored one.
        max_new_tokens: for a model that writes: most tokens. None: 64, or as generation_config.json says.
        temperature: for a language model: 0 takes the likeliest token, above it tokens are drawn. None: 0.
        top_k: for a language model: draw among the k likeliest.
        top_p: for a language model: draw among the fewest that hold this probability.
        seed: for a language model: the same seed draws the same text.
        stream: for a model that writes: `events` hears each text and its pieces as they come (`Piece`).
        prompt_name: for vectors: the prompt of this name goes before each text, such as query or document.
            None: the default one.
        prompt: for vectors: this goes before each text.
        truncate_dim: for vectors: keep so many dimensions, which are not normalised again.
        normalize: for vectors: divide each by its length, after it was cut.
        precision: for vectors: int8, uint8, binary or ubinary. None: float32.
        ranges: for vectors: a file of `numpy.save` with the least and the greatest of each dimension, for
            int8 and uint8. None: those of these vectors.
        language: for speech: the name or the code of the language that is spoken. None: as
            generation_config.json says, or the one that the model hears.
        translate: for speech: write it in English.
        timestamps: for speech: with the times of segments.
        events: hears of progress (`optkit.events`).

    Raises RecipeError for parameters that do not fit each other, DataError for a text or row that cannot be
    answered, OutputError where `output` exists, and what `optkit.load` raises.

    >>> import optkit
    >>> optkit.predict("models/sst2-int8", ["a fine film"]).answers[0].label
    'positive'
    """
    if texts and input:
        raise RecipeError("Expected either texts or --input FILE, received both.")
    asked = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    of_vectors: dict[str, Any] = {
        "prompt_name": prompt_name,
        "prompt": prompt,
        "truncate_dim": truncate_dim,
        "normalize": normalize or None,
        "precision": precision,
        "ranges": None if ranges is None else str(ranges),
        "language": language,
        "translate": translate or None,
        "timestamps": timestamps or None,
    }
    of_vectors = {name: value for name, value in of_vectors.items() if value is not None}
    if output is not None:
        if input is None:
            raise RecipeError("--output needs --input FILE.")
        if options or stream:
            raise RecipeError("Expected either --output or options of generation, received both.")
        job = Job(
            path=str(merged_or_whole(path, verify_key)),
            input=str(input),
            output=str(output),
            runtime=runtime,
            text_column=columns.text,
            pair_column=columns.pair,
            keep=listed(keep),
            chunk=chunk,
            threads=threads or (1 if ray else None),
            verify_key=None if verify_key is None else str(verify_key),
            options=of_vectors,
        )
        done = predict_file(job, force=force, ray=ray, events=events)
        return Predictions((), (), (), (), Path(output), done.rows, done.answered, done.seconds)
    if ray or keep or columns != Columns():
        raise RecipeError("--ray, --keep, --text-column and --pair-column need --output FILE.")
    given = tuple(texts or (() if input is None else read_texts(Path(input))))
    settings: dict[str, Any] = {"threads": threads} if threads else {}
    with load(path, runtime, verify_key=verify_key, **settings) as predictor:
        task = predictor.task
        if stream:
            answers = [_written(predictor, text, options, events) for text in given]
        else:
            answers = predictor.predict([task.from_line(text) for text in given], **options, **of_vectors)
    lines, records = map(task.line, answers), map(task.describe, answers)
    return Predictions(given, tuple(answers), tuple(lines), tuple(records), None, len(given), len(given))


def _written(predictor: Predictor, text: str, options: dict[str, Any], events: Events) -> Answer:
    """What the model writes after `text`, told piece by piece."""
    pieces = predictor.generate(text, **options)
    events(Piece(text))
    while True:
        try:
            events(Piece(next(pieces)))
        except StopIteration as end:
            events(Piece("\n"))
            return end.value


def read_texts(file: Path) -> list[str]:
    """The lines of `file` that hold something. Raises RecipeError for a file of rows, DataError."""
    if file.suffix in ENDINGS:
        raise RecipeError(
            f"Expected texts, one per line, received {file.name!r}, whose lines are rows with columns.",
            hint="Give --output as well." if file.suffix in KINDS else f"Give a {', '.join(KINDS)} file.",
        )
    try:
        return texts_of(file.read_bytes())
    except (OSError, UnicodeDecodeError) as reason:
        raise DataError(f"Cannot read texts from {str(file)!r}: {reason}.") from reason


def texts_of(content: bytes) -> list[str]:
    """The lines that hold something. Raises UnicodeDecodeError."""
    return [line for line in lines_of(content.decode("utf-8")) if line.strip()]
