"""Files and folders that are whole or not there: JSON, checksums, output that appears at once."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

from optkit.errors import OutputError
from optkit.reading import json_list as json_list
from optkit.reading import read_json as read_json

#: Lists of what a command wrote: "files" in them is name → sha256.
_LISTS = ("optkit.json", "preprocessing.json")
#: Reports that may lie alone in a folder; "schema" in them says whose they are.
_REPORTS = ("report.json", "study.json")
#: How the names of files begin that commands write beside what is listed.
_BESIDE = (
    *("optkit.json", "preprocessing.json", "preprocessing.md"),
    *("report.", "study.json", "study.html", "training.html", "tensorboard/events.out.tfevents"),
)


@contextmanager
def staged(final: Path, force: bool = False, is_ours: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """A temporary folder that becomes `final` when the block ends well, and vanishes otherwise.

    Where `final` is a link, the new folder takes the link's place, and what it points to stays as it is.
    Raises OutputError when `final` cannot be replaced (see `check_free`), or when the disk is full.
    """
    final = Path(final)
    check_free(final, force, is_ours=is_ours)
    partial = final.with_name(f".{final.name}.partial-{os.getpid()}")
    try:
        with writing(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            _tidy(final)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            yield partial
            _put(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put(partial: Path, final: Path) -> None:
    """Rename `partial` to `final`; what is there goes first, and comes back where that fails."""
    if not final.exists() and not final.is_symlink():
        partial.rename(final)
        return
    old = final.with_name(f".{final.name}.old-{os.getpid()}")
    final.rename(old)
    try:
        partial.rename(final)
    except OSError:
        old.rename(final)
        raise
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old)


def _tidy(final: Path) -> None:
    """Delete what processes that were killed left of `final`: each had its number in the name."""
    for left in final.parent.glob(f".{escape(final.name)}.partial-*"):
        number = left.name.rpartition("-")[2]
        if number.isdigit() and not runs(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def runs(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusals (disk full, no permission) into an OutputError about `path`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Could not write {str(path)!r}: {error.strerror or error}.",
            hint="Check free space and permissions, then run the same command again: it resumes.",
        ) from error


def check_free(
    final: Path,
    force: bool = False,
    keep: Iterable[str | Path | None] = (),
    is_ours: Callable[[Path], bool] | None = None,
) -> None:
    """Raise OutputError where `final` cannot become a new folder, or is no name for one.

    With `force` it may replace what optkit made, and nothing else. `is_ours` knows such folders beside those
    with a manifest or a report. A folder with any of `keep`, what the command reads, is never replaced.
    """
    named(final)
    if final.exists() and not final.is_dir():
        raise OutputError(f"Expected a folder for the output, received the file {str(final)!r}.")
    if not final.is_symlink() and (not final.exists() or not any(final.iterdir())):
        return
    if not force:
        raise OutputError(
            f"The output folder {str(final)!r} exists.",
            hint="Give another --out, or --force to replace it.",
        )
    if final.is_symlink():
        return  # the link goes, and what it points to stays
    for path in keep:
        if path and Path(path).exists() and is_inside(Path(path), final):
            raise OutputError(
                f"--force would delete {str(path)!r}, which this command reads, with {str(final)!r}.",
                hint="Give another --out.",
            )
    if not (is_ours and is_ours(final)) and (found := _foreign(final)):
        raise OutputError(
            f"Expected a folder that optkit made, to replace it; received {str(final)!r}, {found}.",
            hint="Give another --out, or delete or move yourself what is not needed there.",
        )


def named(out: str | Path) -> Path:
    """`out` as a path. Raises OutputError where it has no name of its own, as "." has none."""
    out = Path(out)
    if out.name in ("", ".."):
        raise OutputError(
            f"Expected the name of a folder to make, received {str(out)!r}.",
            hint="Give its name, such as --out models/new.",
        )
    return out


def _foreign(folder: Path) -> str:
    """What shows that not all of `folder` is optkit's; "" where it is."""
    if not any(_says_so(folder / name) for name in (*_LISTS, *_REPORTS)):
        return "which has no manifest or report of optkit's"
    known = {name for file in _LISTS for name in (_object(folder / file).get("files") or ())}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if name not in known and not name.startswith(_BESIDE):
            return f"which holds {name!r} too"
    return ""


def _says_so(file: Path) -> bool:
    """Whether `file` is there and says that optkit wrote it."""
    value = _object(file)
    prepared = file.name == "preprocessing.json" and {"key", "files"} <= set(value)
    return prepared or str(value.get("schema")).startswith("optkit.")


def _object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; {} where there is none that can be read."""
    try:
        return read_json(file, ValueError)
    except (OSError, ValueError):
        return {}


def lines_of(text: str) -> list[str]:
    """The lines of `text`, which end at a line feed only: other separators may stand inside of one."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(*parts: Any) -> str:
    """Twelve hexadecimal digits that stand for `parts`: what JSON writes, arrays and numbers of numpy, else
    what `str` gives.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def is_inside(file: Path, folder: Path) -> bool:
    """Whether `file`, links followed, lies inside of `folder`."""
    return file.resolve().is_relative_to(folder.resolve())


def write_json(file: Path, value: Any) -> None:
    """Write `value` as JSON; see `finite`."""
    write_text(file, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """`value` with null for NaN and infinities, which RFC 8259 does not know."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(file: Path, text: str) -> None:
    """Write so that a reader never sees half of it."""
    temporary = file.with_name(f".{file.name}.partial-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
