"""`preprocess`: shards in parallel, each written whole; then one ordered pass into splits.

A shard's name holds a hash of the input and of the settings, so that the same command goes on after
a kill with the shards that are there, and gives the bytes that an uninterrupted run gives.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unicodedata import unidata_version

from optkit.core.artifact import Artifact
from optkit.core.files import digest, sha256, write_json, write_text
from optkit.core.output import check_free, held, named, staged, writing
from optkit.core.process import die_with_parent
from optkit.data.dataset import CLASSES
from optkit.data.tables.lines import BadRow
from optkit.errors import DataError, WorkerError
from optkit.events import Events, Step, silent
from optkit.models.text import TextEncoder
from optkit.preprocessing.check import flaw, has_answers
from optkit.preprocessing.labels import as_one, check, check_named, groups, labels_of, numbered
from optkit.preprocessing.load import Source, columns_of, sources
from optkit.preprocessing.report import Preprocessed, Skipped, Tally, fingerprint, markdown
from optkit.preprocessing.result import REPORT, checksums, up_to_date
from optkit.preprocessing.segment import jieba_version
from optkit.preprocessing.settings import BY_NAME, Settings, shares_of
from optkit.preprocessing.split import position, split_of, stratified
from optkit.preprocessing.taggers import open_tagger
from optkit.preprocessing.transform import chunk, content
from optkit.tasks.base import Columns

#: Rows per shard: what one process holds at a time, and what a kill costs.
SHARD = 1000
VERSION = 4


def preprocess(
    source: str | Path,
    out: str | Path,
    *,
    columns: Columns = Columns(),
    no_label: bool = False,
    unescape: bool = False,
    keep_empty: bool = False,
    drop_duplicates: bool = False,
    segment: str = "none",
    tag: str = "none",
    tag_features: bool = False,
    encode_labels: bool = False,
    shares: str | Sequence[float] = "0.8,0.1,0.1",
    stratify: bool = False,
    seed: int = 0,
    skip_bad: int = 0,
    processes: int = 1,
    model: str | Path | None = None,
    force: bool = False,
    events: Events = silent,
) -> Preprocessed:
    """Clean, segment, tag and split raw data into JSONL files.

    A source with several splits keeps them; one file, or a train split alone, is divided. The same call
    resumes; where `out` holds the result of the same input and settings already, nothing is done.

    Parameters:
        source: a JSONL, CSV, TSV, Parquet, CoNLL or SQuAD file, a folder of splits, or a hub data set.
        out: the folder to make, with preprocessing.json and preprocessing.md.
        columns: which columns hold text, second text and label. None in it: the names that `finetune` knows.
        no_label: the data has no labels.
        unescape: undo HTML escapes.
        keep_empty: keep empty texts.
        drop_duplicates: keep the first of equal texts only.
        segment: none, jieba or sentences.
        tag: none, jieba, spacy:PIPELINE, or a token-classification checkpoint.
        tag_features: tags in the text (word/TAG) instead of columns.
        encode_labels: labels as numbers; labels.json has their names.
        shares: shares of train, validation and test, which sum to 1: three numbers, or text with commas.
        stratify: the same shares of every label.
        seed: the same seed gives the same splits.
        skip_bad: leave out at most this many corrupt lines.
        processes: the result does not depend on their number.
        model: a checkpoint: count texts beyond its limit.
        force: replace `out`.
        events: hears of progress (`optkit.events`).

    Raises DataError, which names file and line of bad input; then nothing lies under `out`.

    >>> import optkit
    >>> optkit.preprocess("raw.jsonl", "prepared", stratify=True).rows
    {'train': 32, 'test': 4, 'validation': 4}
    """
    settings = Settings(
        text=columns.text or BY_NAME,
        label=None if no_label else columns.label or BY_NAME,
        pair=columns.pair,
        unescape=unescape,
        drop_empty=not keep_empty,
        drop_duplicates=drop_duplicates,
        segment=segment,
        tag=tag,
        tag_features=tag_features,
        encode_labels=encode_labels,
        shares=shares_of(shares),
        stratify=stratify,
        seed=seed,
        skip_bad=skip_bad,
    )
    out, encoder = Path(out), TextEncoder(Artifact.open(model).path) if model else None
    with held(named(out)):
        if not (out / REPORT).exists():
            check_free(out, force, (source, model))
        return _preprocessed(source, out, settings, processes, model, encoder, force, events)


def _preprocessed(
    source: str | Path,
    out: Path,
    settings: Settings,
    processes: int,
    model: str | Path | None,
    encoder: TextEncoder | None,
    force: bool,
    events: Events,
) -> Preprocessed:
    splits = sources(source)
    names = columns_of(splits)
    asked, settings = settings.label, settings.of(names)
    made_of = digest(
        *(VERSION, SHARD, unidata_version, asdict(settings), _tools(settings)),
        *((name, split.digest) for name, split in sorted(splits.items())),
    )
    limit = (sha256(Path(model) / "tokenizer.json"), encoder.max_length) if model and encoder else ()
    key = digest(made_of, *limit)
    if not force and (report := up_to_date(out, key)):
        events(Step(f"{out} is up to date"))
        return Preprocessed.of(out, report, settings)
    check_free(out, force, (source, model))
    work = out.parent / f".{out.name}.work"
    for old in work.glob("*") if work.exists() else ():
        if old.name != made_of:
            shutil.rmtree(old, ignore_errors=True)
    tally = Tally()
    shards: dict[str, list[Path]] = {}
    with writing(work):
        (work / made_of).mkdir(parents=True, exist_ok=True)
        for name, split in splits.items():
            parts = (settings.text, settings.pair, settings.label)
            columns = Columns(*(name if name in names else None for name in parts))
            events(Step(f"reading {split.name}: {columns}".removesuffix(": ")))
            shards[name] = _shards(name, split, settings, work / made_of, processes, tally)
    events(Step("writing the splits"))
    with staged(out, force) as folder:
        _write(shards, folder, settings, tally, encoder)
        check_named(tally, asked)
        report = {"source": str(source), "settings": asdict(settings), **tally.to_dict()}
        report |= {"key": key, "files": checksums(folder)}
        write_json(folder / REPORT, report)
        write_text(folder / "preprocessing.md", markdown(report))
    shutil.rmtree(work, ignore_errors=True)
    return Preprocessed.of(out, report, settings)


def _shards(
    name: str, source: Source, settings: Settings, work: Path, processes: int, tally: Tally
) -> list[Path]:
    """The shards of one source, in order; those that an earlier run left are not made again."""
    shards: list[Path] = []
    waiting: deque[tuple[Path, Future[list[dict[str, Any]]]]] = deque()
    with ExitStack() as stack:
        pool = None
        if processes > 1:
            context = get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(processes, context, initializer=die_with_parent))

        def save_first() -> None:
            target, future = waiting.popleft()
            try:
                rows = future.result()
            except BrokenProcessPool as reason:
                raise WorkerError("A worker process died.", hint="Run it again: it resumes.") from reason
            write_text(target, _jsonl(rows))

        stream = _sound(source, settings, tally)
        while part := list(islice(stream, SHARD)):
            target = work / f"{name}-{len(shards):06d}.jsonl"
            shards.append(target)
            if target.exists():
                continue
            if pool is None:
                write_text(target, _jsonl(chunk(part, settings)))
                continue
            waiting.append((target, pool.submit(chunk, part, settings)))
            if len(waiting) >= 2 * processes:
                save_first()
        while waiting:
            save_first()
    return shards


def _sound(source: Source, settings: Settings, tally: Tally) -> Iterator[dict[str, Any]]:
    """The rows that can be read; more bad ones than allowed are an error that names the line."""
    for number, row in source.rows(settings.label):
        row = row if isinstance(row, BadRow) else settings.in_words(row)
        reason = str(row) if isinstance(row, BadRow) else flaw(row, settings)
        if isinstance(row, BadRow) or reason:
            if (count := len(tally.skipped)) >= settings.skip_bad:
                raise DataError(
                    f"{source.name!r} has a corrupt {source.unit} {number}: {reason}.",
                    hint=f"Correct it, or leave such {source.unit}s out with --skip-bad {count + 1}.",
                )
            tally.skipped.append(Skipped(Path(source.name).name, number, reason or ""))
        else:
            yield row


def _kept(
    shards: list[Path], split: str, settings: Settings, tally: Tally | None, done: set[bytes]
) -> Iterator[tuple[dict[str, Any], list[str], float, str]]:
    """Rows of the shards, without the empty and repeated ones as asked: with texts, position and split."""
    for shard in shards:
        with shard.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                texts, same = content(row, settings)
                place = position("\0".join(texts), settings.seed)
                if not all(text.strip() for text in texts):
                    if tally:
                        tally.empty += 1
                    if settings.drop_empty:
                        continue
                where = split or split_of(place, settings.shares)
                if tally and tally.seen(same, where, as_one(row, settings)):
                    if settings.drop_duplicates:
                        continue
                elif not tally and settings.drop_duplicates:
                    if (mark := fingerprint(same)) in done:
                        continue
                    done.add(mark)
                yield row, texts, place, where


def _write(
    shards: dict[str, list[Path]], folder: Path, settings: Settings, tally: Tally, encoder: TextEncoder | None
) -> None:
    needed = settings.encode_labels or settings.stratify
    numbers = numbered((part for parts in shards.values() for part in parts), settings) if needed else {}
    divide = len(shards) == 1 and set(shards) <= {"all", "train"}
    chosen: Iterator[str] | None = None
    if divide and settings.stratify:
        places, labels, done = [], [], set[bytes]()
        for row, _, place, _ in _kept(next(iter(shards.values())), "", settings, None, done):
            places.append(place)
            labels.append(labels_of(row, settings) or [])
        chosen = iter(stratified(places, groups(labels), settings.shares))
    with ExitStack() as stack:
        streams: dict[str, Any] = {}
        for name, parts in shards.items():
            for row, texts, _, where in _kept(parts, "" if divide else name, settings, tally, set()):
                split = next(chosen) if chosen else where
                row_labels = labels_of(row, settings)
                tally.add(" ".join(texts), split, row_labels or [])
                if has_answers(row):
                    if not row["answers"]["text"]:
                        tally.unanswered[split] += 1
                elif settings.label and row_labels is None:
                    tally.unlabelled[split] += 1
                if (
                    encoder
                    and encoder.encode([(texts[0], texts[1]) if len(texts) > 1 else texts[0]]).truncated
                ):
                    tally.truncated[split] += 1
                if settings.encode_labels and row_labels:
                    row = {**row, str(settings.label): numbers[row_labels[0]]}
                if split not in streams:
                    file = folder / f"{split}.jsonl"
                    streams[split] = stack.enter_context(file.open("w", encoding="utf-8"))
                streams[split].write(json.dumps(row, ensure_ascii=False) + "\n")
    if settings.encode_labels:
        write_json(folder / CLASSES, {settings.label: list(numbers)})
    check(tally)


def _tools(settings: Settings) -> list[str]:
    """What stands for the tagger and the segmenter that are used."""
    tagger = open_tagger(settings.tag).digest if settings.tag != "none" else ""
    return [tagger, jieba_version() if "jieba" in (settings.tag, settings.segment) else ""]


def _jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
