"""`Writing`: a text that a thread writes, read on the event loop as it comes, given up when nobody reads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing
from typing import Any

from optkit.serving.http.batch_queue import Late
from optkit.tasks.labelled import Answer

_END = object()


class Writing:
    """`write` makes a generator of pieces that returns the whole answer; `answer` holds it when all are read.

    Iterating raises what `write` raises, and Late at `deadline` (a time of `time.monotonic`). The thread ends
    with the piece that it is at, once iterating has ended for any reason.
    """

    def __init__(self, write: Callable[[], Generator[str, None, Answer]], deadline: float) -> None:
        self.answer: Answer = None
        self._write, self._deadline = write, deadline
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Any] = asyncio.Queue()
        self._unread = threading.Event()

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        threading.Thread(target=self._run, name="writing", daemon=True).start()
        try:
            while (piece := await self._next()) is not _END:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self._unread.set()

    async def _next(self) -> Any:
        try:
            return await asyncio.wait_for(self._pieces.get(), max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            raise Late("The deadline passed before the text was written.") from None

    def _run(self) -> None:
        end: object = _END
        try:
            with closing(self._write()) as pieces:
                while not self._unread.is_set():
                    self._tell(next(pieces))
        except StopIteration as last:
            self.answer = last.value
        except Exception as error:
            end = error
        self._tell(end)

    def _tell(self, piece: object) -> None:
        try:
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
        except RuntimeError:  # the loop is gone, and so is the reader
            self._unread.set()
