"""`predict_file`: answers to a file of any size, at constant memory; a run that was killed goes on.

The input is cut into chunks. The answers to a chunk become one part beside the output, whole or not at
all; a second run makes only the parts that are missing, and the last step joins them. So the output is
the same whether or not the run was interrupted, and however many processes made the parts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.core.files import read_json, sha256, write_json
from optkit.core.output import claimed_file, writing
from optkit.errors import DataError, OutputError, RecipeError
from optkit.events import Answered, Events, Note, silent
from optkit.models.architectures import infer_task
from optkit.models.signing import open_signed
from optkit.serving import inputs, outputs
from optkit.serving.inputs import Chunk
from optkit.serving.predictor import Predictor, load
from optkit.tasks.base import Columns, task_type
from optkit.tasks.labelled import Input

if TYPE_CHECKING:
    from optkit.tasks.base import Task

#: Rows per chunk: enough neighbours in length, and little to do again after a kill.
CHUNK = 8192
#: Of the first rows, so many are looked at for columns: some may be blank.
LOOKED_AT = 100


@dataclass(frozen=True)
class Job:
    """What one run is about; two runs with an equal job share their parts.

    `keep` are input columns copied to the output; empty: the text alone. `columns` are those that every row
    is read by, where the input has columns. `verify_key` as for `load`, `options` as for `Predictor.predict`.
    """

    path: str
    input: str
    output: str
    runtime: str | None = None
    text_column: str | None = None
    pair_column: str | None = None
    keep: tuple[str, ...] = ()
    chunk: int = CHUNK
    threads: int | None = None
    verify_key: str | None = None
    columns: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise RecipeError(f"Expected chunks of at least 1 row, received {self.chunk}.")
        if str(self.options.get("precision", "")).endswith("int8") and "ranges" not in self.options:
            raise RecipeError(
                "Expected --ranges FILE beside --output: a file is answered in chunks, which must agree.",
                hint="Take them from float32 vectors of your texts: min and max, numpy.vstack, numpy.save.",
            )

    @property
    def folder(self) -> Path:
        """Where the parts lie until the output is whole."""
        output = Path(self.output)
        return output.with_name(f".{output.name}.parts")

    def part(self, chunk: Chunk) -> Path:
        return self.folder / f"part-{chunk.number:06d}{Path(self.output).suffix}"

    def open(self) -> Predictor:
        options: dict[str, Any] = {"threads": self.threads} if self.threads else {}
        return load(self.path, self.runtime, verify_key=self.verify_key, **options)

    def identity(self) -> str:
        """A hash of all that the answers depend on: the model, the input's bytes, and the settings."""
        facts = {k: v for k, v in asdict(self).items() if k not in ("path", "input", "output", "verify_key")}
        if ranges := self.options.get("ranges"):
            facts["options"] = {**self.options, "ranges": sha256(Path(ranges))}
        model = open_signed(self.path, self.verify_key).fingerprint()
        text = json.dumps([facts, model, sha256(Path(self.input))], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Done:
    """`rows` in the output, `answered` of them by this run, in `seconds`."""

    rows: int
    answered: int
    seconds: float


def predict_file(
    job: Job,
    *,
    force: bool = False,
    ray: bool = False,
    events: Events = silent,
) -> Done:
    """Answer every row of `job.input` and write `job.output`, in the order of the input.

    `events` hears how many rows are answered (`Answered`), and once which columns are read.

    Interrupted, the same call goes on where it was. `ray` spreads the chunks over a Ray cluster (extra
    `ray`); its machines must see the same files. Raises DataError for a row that cannot be read or
    answered, with its number; OutputError where the output exists and `force` is false.
    """
    begun = time.monotonic()
    outputs.check(Path(job.output))
    with claimed_file(job.output, force, (job.input, job.path), parents=True) as output, writing(output):
        chunks = inputs.plan(Path(job.input), job.chunk)
        job = _with_columns(job, chunks)
        if job.columns:
            events(Note(f"reading {_shown(job.columns)} of {job.input}"))
        _prepare(job)
        missing = [chunk for chunk in chunks if not job.part(chunk).exists()]
        total, done = sum(c.rows for c in chunks), 0
        before = total - sum(c.rows for c in missing)
        events(Answered(before, total, 0.0))
        for rows in _with_ray(job, missing) if ray else _here(job, missing):
            done += rows
            events(Answered(before + done, total, time.monotonic() - begun))
        outputs.merge([job.part(chunk) for chunk in chunks], output)
        shutil.rmtree(job.folder)
    return Done(total, done, time.monotonic() - begun)


def answer_chunk(predictor: Predictor, job: Job, chunk: Chunk) -> int:
    """Write the part of `chunk`; how many rows of the input it covers."""
    rows = inputs.read(Path(job.input), chunk)
    parsed = [_input(predictor.task, job, number, row) for number, row in rows]
    try:
        answers = predictor.predict([item for item, _ in parsed], **job.options)
    except DataError:
        for (number, _), (item, _) in zip(rows, parsed):
            _refuse(predictor.task, job, number, item)
        raise
    records = []
    for (number, _), (_, extra), answer in zip(rows, parsed, answers):
        described = predictor.task.describe(answer)
        twice = sorted(set(extra) & set(described))
        if twice:
            raise RecipeError(f"The answer has a field {twice[0]!r} of its own; leave it out of --keep.")
        records.append({"row": number, **extra, **described})
    copied = {name for _, columns in parsed for name in columns}
    kinds = outputs.kinds_of(records, tuple(copied)) if job.output.endswith(".parquet") else {}
    outputs.write_part(job.part(chunk), records, kinds)
    return chunk.rows


def _with_columns(job: Job, chunks: list[Chunk]) -> Job:
    """`job` with the columns of the first row; none where that is a text."""
    first = replace(chunks[0], rows=min(chunks[0].rows, LOOKED_AT))
    for number, row in inputs.read(Path(job.input), first):
        if not isinstance(row, str):
            task = task_type(infer_task(open_signed(job.path, job.verify_key)))
            with _of_row(job, number):
                return replace(job, columns=_names(task, job, row))
    return job


def _names(task: type[Task] | Task, job: Job, row: dict[str, Any]) -> tuple[str, ...]:
    return task.input_columns(list(row), Columns(job.text_column, job.pair_column))


@contextmanager
def _of_row(job: Job, number: int) -> Iterator[None]:
    """Name the row in a DataError."""
    try:
        yield
    except DataError as error:
        words = str(error).replace(" at position 0", "")  # of the one input that this row is
        raise DataError(f"Row {number + 1} of {job.input!r}: {words}", hint=error.hint) from error


def _prepare(job: Job) -> None:
    """The folder of parts; those of another job, model or input are thrown away."""
    state, identity = job.folder / "job.json", job.identity()
    if state.exists() and read_json(state, OutputError).get("identity") != identity:
        shutil.rmtree(job.folder)
    if not state.exists():
        shutil.rmtree(job.folder, ignore_errors=True)
        job.folder.mkdir(parents=True)
        write_json(state, {"identity": identity})


def _here(job: Job, chunks: Iterable[Chunk]) -> Iterable[int]:
    predictor = None
    for chunk in chunks:
        predictor = predictor or job.open()  # nothing to answer, nothing to load
        yield answer_chunk(predictor, job, chunk)
    if predictor is not None:
        predictor.close()


def _with_ray(job: Job, chunks: list[Chunk]) -> Iterable[int]:
    from optkit.serving.on_ray import answer_chunks

    yield from answer_chunks(job, chunks)


def _input(task: Task, job: Job, number: int, row: dict[str, Any] | str) -> tuple[Input, dict[str, Any]]:
    """What the task takes, and the columns to keep, from one row."""
    if isinstance(row, str):
        with _of_row(job, number):
            return task.from_line(row), {"text": row}
    where = f"row {number + 1} of {job.input!r}"
    with _of_row(job, number):
        names = _names(task, job, row)
    if names != job.columns:
        raise DataError(
            f"Expected all rows to be read by {_shown(job.columns)}, as the first, received {_shown(names)} "
            f"in {where}.",
            hint="Name the columns with --text-column and --pair-column, or give every row the same ones.",
        )
    with _of_row(job, number):
        item = task.from_columns(row, names)
    for value in item.values() if isinstance(item, dict) else item if isinstance(item, tuple) else (item,):
        if not isinstance(value, (str, list, bool)):
            kind = "null" if value is None else type(value).__name__
            raise DataError(f"Expected a text in {where}, received {kind}.")
    absent = [name for name in job.keep if name not in row]
    if absent:
        raise DataError(f"R{where[1:]} has no column {absent[0]!r}.")
    # What every input has beside its text (a question its context) may be long: it is not copied.
    copied = names[:1] if len(task.takes) > 1 and task.takes[1].required else names
    return item, {name: outputs.plain(row[name]) for name in job.keep or copied}


def _shown(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names)) or "no column"


def _refuse(task: Task, job: Job, number: int, item: Input) -> None:
    """Raise DataError with the row's number where `item` is what the task does not take."""
    with _of_row(job, number):
        task.encode([item])
