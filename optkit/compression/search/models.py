"""The models in a study's folder: which of them a process uses, so that no other deletes them.

Everything in the folder can be made again, and is where it is missing; only what is in use must stay. A
use ends with its process, however that ends.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Whatever lies in `folder`, now or later, is not deleted until the block ends."""
    with _lock_file(folder) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def delete(folder: Path) -> bool:
    """Delete `folder`; False, and nothing is deleted, where a process of this machine uses it."""
    with _lock_file(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True


def _lock_file(folder: Path) -> TextIO:
    return folder.with_name(f".{folder.name}.used.lock").open("w")
