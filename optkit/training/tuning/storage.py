"""Where a study lives, by URL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from optkit.core.locks import locked
from optkit.errors import MissingDependency, OutputError, RecipeError

if TYPE_CHECKING:
    import optuna
    import optuna.storages


_FORMS = "sqlite:///FILE.db, journal:FILE.journal, or any SQLAlchemy URL such as postgresql://HOST/NAME"
_SQLITE, _JOURNAL = "sqlite:///", "journal:"


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Optuna's storage for `url`; a file is made where there is none.

    A journal is one file to which every process appends: it serves where SQLite's locks do not (network
    file systems). Raises RecipeError for what is no URL, OutputError where it cannot be opened.

    >>> open_storage("study.db")
    Traceback (most recent call last):
    ...
    optkit.errors.RecipeError: Expected a storage URL, received 'study.db'.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url.startswith(_JOURNAL) and (name := url.removeprefix(_JOURNAL)):
        file = _parent_made(Path(name))
        return optuna.storages.JournalStorage(JournalFileBackend(str(file), JournalFileOpenLock(str(file))))
    if "://" not in url:
        raise RecipeError(f"Expected a storage URL, received {url!r}.", hint=f"Give {_FORMS}.")
    try:
        if not url.startswith(_SQLITE):
            return optuna.storages.RDBStorage(url)
        # Two processes that begin at once would both make the tables.
        with locked(_parent_made(Path(url.removeprefix(_SQLITE)))):
            return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 120}})
    except ImportError as reason:
        raise MissingDependency(
            f"The storage {shown(url)!r} needs a database driver that is not installed: {reason}.",
            hint="Install the driver that SQLAlchemy names for this database.",
        ) from reason
    except OutputError:
        raise
    except Exception as reason:  # SQLAlchemy's and the driver's own classes
        raise OutputError(
            f"Could not open the storage {shown(url)!r}: {str(reason).splitlines()[0]}",
            hint=f"Give {_FORMS}.",
        ) from reason


def shown(url: str) -> str:
    """`url` without its password.

    >>> shown("postgresql://me:secret@host/studies")
    'postgresql://me:***@host/studies'
    """
    head, at, tail = url.rpartition("@")
    scheme, slashes, user = head.partition("://")
    return f"{scheme}{slashes}{user.partition(':')[0]}:***@{tail}" if at and ":" in user else url


def place_of(url: str, folder: Path) -> str:
    """What tells the storage at `url` from others, without its password; a file by its way from `folder`,
    so that both can be moved together.

    >>> place_of("sqlite:///models/best.study/study.db", Path("models/best.study"))
    'sqlite:///study.db'
    """
    start = next((s for s in (_SQLITE, _JOURNAL) if url.startswith(s)), None)
    return shown(url) if start is None else start + os.path.relpath(url.removeprefix(start), folder)


def _parent_made(file: Path) -> Path:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as reason:
        raise OutputError(f"Could not make the folder of {str(file)!r}: {reason.strerror}.") from reason
    return file
