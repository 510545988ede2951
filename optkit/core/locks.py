"""Locks that processes of one machine share; a lock is gone with its process, however that ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from optkit.errors import OutputError

#: Seconds that `hold` waits: a child of a process that was killed dies a moment after it.
PATIENCE_S = 1.0
_held: set[tuple[str, int]] = set()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process of this machine holds the lock beside `path`, and hold it."""
    import fcntl

    with lock_file(path).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the output `path` for one command, which may hold it more than once.

    Raises OutputError that names the process which holds it. On a file system without locks nothing is held.
    """
    key = (os.path.join(os.path.realpath(path.parent), path.name), threading.get_ident())
    if key in _held:
        yield
        return
    descriptor = _acquire(path)
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        with suppress(OSError):
            _held_file(path).unlink()
        os.close(descriptor)


def lock_file(path: Path) -> Path:
    """The file whose lock `locked` takes."""
    return path.with_name(f".{path.name}.lock")


def _held_file(path: Path) -> Path:
    """The file whose lock `hold` takes: another one, since a process waits its turn with `locked`, then has
    a child write what it waited for."""
    return path.with_name(f".{path.name}.held")


def _acquire(path: Path) -> int:
    """An open, locked descriptor of the lock file that has our process number in it."""
    import fcntl

    file, deadline = _held_file(path), time.monotonic() + PATIENCE_S
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            process = f" (process {holder})" if holder.isdigit() else ""
            raise OutputError(
                f"Another command{process} is writing {str(path)!r} at this moment.",
                hint="Wait for it or end it, or give another output.",
            ) from None
        except OSError:
            return descriptor  # this file system has no locks
        # Its last holder may have deleted the file between our two calls.
        if _is_at(descriptor, file):
            try:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
            except OSError:  # a full disk
                file.unlink()
                os.close(descriptor)
                raise
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file, follow_symlinks=False))
    except FileNotFoundError:
        return False
