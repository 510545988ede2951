"""What a command writes: held by one command, tried before work begins, whole or not there at the end."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from optkit.core.files import is_inside, read_json
from optkit.core.locks import hold
from optkit.errors import OptkitError, OutputError

#: Lists of what a command wrote: "files" in them is name → sha256.
_LISTS = ("optkit.json", "preprocessing.json")
#: Reports that may lie alone in a folder; "schema" in them says whose they are.
_REPORTS = ("report.json", "study.json")
#: How the names of files begin that commands write beside what is listed.
_BESIDE = (
    *("optkit.json", "model.sig", "preprocessing.json", "preprocessing.md"),
    *("report.", "study.json", "study.html", "training.html", "tensorboard/events.out.tfevents"),
)
#: How names of files begin or end that are drawn from a report, and may lie in a model's folder.
_REPORT_FILES = ("report.", ".md", ".html")
#: Exit codes of errors that say the input is wrong: what was begun is of no use to the next run.
_REFUSALS = (2, 4, 5, 7)
#: Bytes of a name, of the 255 that file systems take: ".NAME.work-DIGEST" and the like must fit too.
LONGEST_NAME = 220


@contextmanager
def claimed(
    out: str | Path,
    force: bool = False,
    reads: Iterable[str | Path | None] = (),
    is_ours: Callable[[Path], bool] | None = None,
    *,
    shared: bool = False,
    leaves: Iterable[Path] = (),
) -> Iterator[Path]:
    """Hold the folder `out` for the whole of a command, from before its work until all is written.

    A second command with the same `out` is refused at once, unless `shared` (several processes of one
    study). What a killed command left is put right first. An error that refuses the input (see
    `optkit.errors`: 2, 4, 5, 7) leaves nothing new: neither hidden files beside `out`, nor the folders
    `leaves`, nor parents of `out`. Any other error, and an interruption, leaves what the next run goes on
    with. `reads` are the command's inputs (see `check_free`).
    """
    with held(named(out), shared, leaves) as path:
        check_free(path, force, reads, is_ours)
        yield path


@contextmanager
def claimed_file(
    out: str | Path, force: bool = False, reads: Iterable[str | Path | None] = (), parents: bool = False
) -> Iterator[Path]:
    """The same for one file; with `force` it may replace a file, but none of `reads`, nor lie in a model.

    Its folder must be there, or is made where `parents` is true.
    """
    if not parents and not os.path.isdir(named(out).parent):
        raise OutputError(f"Could not write {str(out)!r}: its folder does not exist.", hint="Make it first.")
    with held(named(out)) as path:
        with writing(path):
            if path.exists() and not path.is_file():
                raise OutputError(f"Expected a plain file for the output, received {str(path)!r}.")
            _refuse_input(path, reads)
            _refuse_model(path, _REPORT_FILES)
            if not force and (path.exists() or path.is_symlink()):
                raise OutputError(f"The output {str(path)!r} exists.", hint="Give another name, or --force.")
        yield path


@contextmanager
def held(out: Path, shared: bool = False, leaves: Iterable[Path] = ()) -> Iterator[Path]:
    """`claimed` without a look at what lies at `out` already."""
    with ExitStack() as stack:
        with writing(out):
            stack.callback(_remove_empty, _make_parents(out.parent))
            if shared:
                with suppress(OutputError), hold(out):  # another process of the study may be writing it
                    _repair(out)
            else:
                stack.enter_context(hold(out))
                _repair(out)
            before = {*_beside(out), *(path for path in leaves if path.exists())}
        try:
            yield out
        except OptkitError as error:
            if error.exit_code in _REFUSALS:
                for path in {*_beside(out), *leaves} - before:
                    delete(path)
            raise


@contextmanager
def staged(final: Path, force: bool = False, is_ours: Callable[[Path], bool] | None = None) -> Iterator[Path]:
    """A temporary folder that becomes `final` when the block ends well, and vanishes otherwise.

    Where `final` is a link, the new folder takes the link's place, and what it points to stays as it is.
    Raises OutputError when `final` cannot be replaced (see `check_free`), when another command is writing
    it, or when the disk is full.
    """
    with claimed(final, force, is_ours=is_ours) as final:
        partial = final.with_name(f".{final.name}.partial-{os.getpid()}")
        try:
            with writing(final):
                partial.mkdir()
                yield partial
                _put(partial, final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _put(partial: Path, final: Path) -> None:
    """Rename `partial` to `final`; what is there vanishes.

    The two change names in one step where the system can; where it cannot, `_repair` knows what a kill
    between the steps left.
    """
    if not final.exists() and not final.is_symlink():
        partial.rename(final)
        return
    if _exchange(partial, final):
        delete(partial)
        return
    old = final.with_name(f".{final.name}.old-{os.getpid()}")
    final.rename(old)
    try:
        partial.rename(final)
    except OSError:
        old.rename(final)
        raise
    delete(old)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange the names of `a` and `b` in one step; False where the system or file system cannot."""
    at_cwd, exchange = -100, 2  # Linux: AT_FDCWD, RENAME_EXCHANGE
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return bool(library.renamex_np(os.fsencode(a), os.fsencode(b), exchange) == 0)
        return bool(library.renameat2(at_cwd, os.fsencode(a), at_cwd, os.fsencode(b), exchange) == 0)
    return False


def _repair(final: Path) -> None:
    """Put right what a killed command left of `final`, which this process holds: the old folder comes back
    where there is no new one, and all else goes."""
    for old in _beside(final, "old-*"):
        if final.exists() or final.is_symlink():
            delete(old)
        else:
            old.rename(final)
    for partial in _beside(final, "partial-*"):
        delete(partial)


def _beside(final: Path, kind: str = "*") -> list[Path]:
    """The hidden files and folders of `final`, by name, without its locks."""
    names = final.parent.glob(f".{escape(final.name)}.{kind}")
    return sorted(path for path in names if path.suffix not in (".lock", ".held"))


def delete(path: Path) -> None:
    """Delete the file, link or folder at `path`, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _make_parents(folder: Path) -> list[Path]:
    """Make `folder` with its parents; those that are new, the innermost first."""
    new = []
    for parent in (folder, *folder.parents):
        if parent.exists():
            break
        new.append(parent)
    folder.mkdir(parents=True, exist_ok=True)
    return new


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


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
    reads: Iterable[str | Path | None] = (),
    is_ours: Callable[[Path], bool] | None = None,
) -> None:
    """Raise OutputError where `final` cannot become a new folder, or is no name for one.

    With `force` it may replace what optkit made, and nothing else. `is_ours` knows such folders beside those
    with a manifest or a report. A folder with any of `reads`, the command's inputs, is never replaced, and an
    artifact gets no folder inside of it.
    """
    named(final)
    if final.exists() and not final.is_dir():
        raise OutputError(f"Expected a folder for the output, received the file {str(final)!r}.")
    inputs = [Path(path) for path in reads if path and os.path.exists(path)]
    _refuse_model(final)
    if not final.is_symlink() and (not final.exists() or not any(final.iterdir())):
        return
    if not force:
        raise OutputError(
            f"The output folder {str(final)!r} exists.",
            hint="Give another --out, or --force to replace it.",
        )
    if final.is_symlink():
        return  # the link goes, and what it points to stays
    for path in inputs:
        if is_inside(path, final):
            raise OutputError(
                f"--force would delete {str(path)!r}, which this command reads, with {str(final)!r}.",
                hint="Give another --out.",
            )
    if not (is_ours and is_ours(final)) and (foreign := _foreign(final)):
        raise OutputError(
            f"Expected a folder that optkit made, to replace it; received {str(final)!r}, {foreign}.",
            hint="Give another --out, or delete or move yourself what is not needed there.",
        )


def _refuse_input(file: Path, reads: Iterable[str | Path | None]) -> None:
    """Raise OutputError where `file` is one of the inputs, or would lie among the files of a model."""
    for path in (Path(path) for path in reads if path and os.path.exists(path)):
        if file.exists() and os.path.samefile(file, path):
            raise OutputError(
                f"The output {str(file)!r} is what this command reads.", hint="Give another name."
            )
        if path.is_dir() and path.resolve() in file.resolve().parents:
            raise OutputError(
                f"Expected an output outside of the model {str(path)!r}, received {str(file)!r}.",
                hint="Give another name: a model's folder stays as it was made.",
            )


def _refuse_model(out: Path, but: tuple[str, ...] = ()) -> None:
    """Raise OutputError where `out` would lie in an artifact, and is none of `but` by its name."""
    if but and (out.name.startswith(but) or out.name.endswith(but)):
        return
    if model := next((p for p in out.resolve().parents if (p / "optkit.json").is_file()), None):
        raise OutputError(
            f"Expected an output outside of the model {str(model)!r}, received {str(out)!r}.",
            hint="Give another name: a model's folder stays as it was made.",
        )


def named(out: str | Path) -> Path:
    """`out` as a path. Raises OutputError where it has no name of its own, as "." has none, or one that
    leaves no room for the names of hidden files beside it."""
    out = Path(out)
    if out.name in ("", "..") or "\0" in str(out):
        raise OutputError(
            f"Expected the name of a folder to make, received {str(out)!r}.",
            hint="Give its name, such as --out models/new.",
        )
    if (length := len(os.fsencode(out.name))) > LONGEST_NAME:
        raise OutputError(
            f"Expected a name of at most {LONGEST_NAME} bytes for the output, received one of {length}.",
            hint="Give a shorter one.",
        )
    return out


def _foreign(folder: Path) -> str:
    """What shows that not all of `folder` is optkit's; "" where it is."""
    if not any(_says_so(folder / name) for name in (*_LISTS, *_REPORTS)):
        return "which has no manifest or report of optkit's"
    lists = [_object(folder / file).get("files") for file in _LISTS]
    listed = {name for files in lists if isinstance(files, dict) for name in files}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if name not in listed and not name.startswith(_BESIDE):
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
