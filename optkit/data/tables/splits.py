"""Which files of a folder make which split: one table for every command. All rows are read, or the file that
would be left out is named."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from optkit.core.reading import check_regular
from optkit.errors import DataError

#: Split → the names that files, folders and hub data sets may have for it.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
#: Names that say that a file is a split, and not which one.
_UNSURE = ("eval", "evaluation", "validations", "trains", "tests", "heldout", "holdout")
#: Endings of rows that no command reads: such a part of a split would be left out.
_UNREAD = {".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".arrow", ".feather", ".orc", ".avro", ".xls",
           ".xlsx", ".ndjson", ".jsonlines", ".jl", ".txt", ".conll", ".jsonl", ".json", ".csv", ".tsv",
           ".parquet"}  # fmt: skip
_SHARD = re.compile(r"[-_. ]?(?:part|shard)?[-_. ]?(\d+)(?:[-_. ]?of[-_. ]?(\d+))?")
_RENAME = (
    "Name the files train, validation and test (shards: train-1, train-2), or move away what is no part."
)


def split_named(name: str) -> str | None:
    """The split that a file, a folder or a hub data set means by `name`, in upper or lower case.

    >>> split_named("Dev"), split_named("eval")
    ('validation', None)
    """
    return _SPLIT_OF.get(name.lower())


def split_files(folder: Path, endings: Iterable[str]) -> dict[str, list[Path]]:
    """Split → its files with one of `endings`, in order; {} where `folder` has none.

    A split is a file (`train.jsonl`), shards (`train-1.jsonl`, `train-00000-of-00002.jsonl`), or a folder of
    files (`train/...`); all of it may lie in a folder `data`. Beside it another file with its name and a word
    more (`train_phrases.jsonl`) is other data. Raises DataError for a split that is there twice or in
    part, and for a file whose name says that it belongs to a split without saying how.
    """
    endings, entries = tuple(endings), _entries(folder)
    splits: dict[str, list[Path]] = {}
    doubtful: list[tuple[str, Path]] = []
    for path in entries:
        split, sure = ("", True) if path.is_dir() else _split_of(path, endings)
        if split and sure:
            splits.setdefault(split, []).append(path)
        elif split:
            doubtful.append((split, path))
    result = {split: _shards(files) for split, files in splits.items()}
    for path in entries:
        if not (path.is_dir() and split_named(path.name)):
            continue
        split = str(split_named(path.name))
        inner = _folder(path, endings)
        if inner and split in result:
            raise _twice(split, [*result[split], path])
        if inner:
            result[split] = inner
    for split, path in doubtful:
        if split not in result:
            raise _left_out(path, "its name says that it belongs to a split, and not to which, or as what.")
    beside = [p for p in entries if p.is_dir() and split_named(p.name) and p not in _parents(result)]
    if result and any(any(path.iterdir()) for path in beside):
        raise _left_out(beside[0], "it holds no rows, and the other splits do.")
    nested = folder / "data"
    deeper = split_files(nested, endings) if nested.is_dir() and folder.name != "data" else {}
    if deeper and result:
        raise DataError(
            f"Expected the splits of {str(folder)!r} in it or in its folder 'data', received both."
        )
    return result or deeper


def regular(file: Path) -> Path:
    """`file`, which can be read. Raises DataError for a device, a pipe, a folder, and what may not be."""
    try:
        check_regular(file.stat(), file, DataError)
        with file.open("rb") as stream:
            stream.read(1)  # some files of /proc open, and cannot be read
    except (OSError, ValueError) as reason:
        said = getattr(reason, "strerror", None) or reason
        raise DataError(f"Cannot read {str(file)!r}: {said}.") from reason
    return file


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as reason:
        raise DataError(f"Cannot read the folder {str(folder)!r}: {reason.strerror or reason}.") from reason


def _split_of(path: Path, endings: tuple[str, ...]) -> tuple[str, bool]:
    """(the split that a file's name speaks of, or "", whether it is this split or a shard of it).

    Raises DataError for what must be a part of a split, and is not read.
    """
    ending, stem = path.suffix.lower(), path.stem.lower()
    unread = ending in _UNREAD or re.fullmatch(r"(\.(part)?\d*)?", ending)
    if (path.suffix not in endings and not unread) or "ubyte" in path.name:  # images as MNIST has them
        return "", False
    while Path(stem).suffix in _UNREAD:  # .jsonl.gz
        stem = Path(stem).stem
    words = re.findall("[a-z]+", stem)
    split = _SPLIT_OF.get(words[0], "") if words and stem.startswith(words[0]) else ""
    rest = stem[len(words[0]) :] if split else ""
    if split and (not rest or _SHARD.fullmatch(rest)):
        if path.suffix in endings:
            return split, True
        raise _left_out(path, f"only files ending in {', '.join(endings)} are read.")
    if stem in _UNSURE or (split and re.fullmatch(r"[^a-z]+|.*\b(copy|part|shard)\b.*", rest)):
        raise _left_out(path, "its name does not say as what.")
    return split or next((_SPLIT_OF[word] for word in words if word in _SPLIT_OF), ""), False


def _folder(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files of rows in the folder of one split, whatever they are called; [] where it holds none."""
    entries = _entries(folder)
    files = [p for p in entries if p.is_file() and p.suffix in endings and p.name != "labels.json"]
    others = [p for p in entries if p not in files and (p.is_dir() or p.suffix.lower() in _UNREAD)]
    others = [p for p in others if p.name != "labels.json" and not (p.is_dir() and _without_rows(p, endings))]
    if files and others:
        raise _left_out(others[0], f"it lies beside {files[0].name!r}.")
    return _shards(files, loose=True) if files else []


def _without_rows(folder: Path, endings: tuple[str, ...]) -> bool:
    """Whether this folder, beside a file of rows, holds what the rows name: images, and no rows."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return bool(files) and not any(p.suffix.lower() in (*endings, *_UNREAD) for p in files)


def _shards(files: list[Path], loose: bool = False) -> list[Path]:
    """The files of one split in the order of their numbers; `loose`: under any names. Raises DataError."""
    split = split_named(files[0].parent.name) if loose else _split_of(files[0], (files[0].suffix,))[0]
    if len({file.suffix for file in files}) > 1:
        raise _twice(split, files)
    numbered = [(*_number(file), file) for file in files]
    totals = {total for _, total, _ in numbered}
    numbers = [number for number, _, _ in numbered]
    if totals != {None}:
        total = next(total for total in totals if total is not None)
        if len(totals) > 1 or sorted(map(int, numbers)) not in (
            list(range(total)),
            list(range(1, total + 1)),
        ):
            raise DataError(
                f"Expected {total} shards of the split {split!r}, received {len(files)}: "
                f"{', '.join(file.name for file in files[:8])}.",
                hint="Fetch the missing shards, or take away those of another set.",
            )
    elif not loose and len(files) > 1 and (-1 in numbers or len(set(numbers)) < len(numbers)):
        raise _twice(split, files)
    return [file for *_, file in sorted(numbered, key=lambda entry: (entry[0], entry[2].name))]


def _number(file: Path) -> tuple[int, int | None]:
    """(number, of how many) of a shard; -1 for a file without a number."""
    match = re.fullmatch(rf".*?{_SHARD.pattern}", file.stem.lower())
    if match is None:
        return -1, None
    return int(match[1]), int(match[2]) if match[2] else None


def _parents(splits: dict[str, list[Path]]) -> set[Path]:
    return {file.parent for files in splits.values() for file in files}


def _left_out(path: Path, why: str) -> DataError:
    return DataError(f"{str(path)!r} would be left out: {why}", hint=_RENAME)


def _twice(split: str | None, files: list[Path]) -> DataError:
    return DataError(
        f"Expected one file, or numbered shards of one kind, for the split {split!r}, received "
        f"{', '.join(repr(str(file)) for file in files[:8])}: some would be left out, or be read twice.",
        hint=_RENAME,
    )
