from __future__ import annotations

import asyncio
import threading
import time
from contextlib import aclosing

import pytest

from optkit.serving.http.batch_queue import Late
from optkit.serving.http.streaming import Writing

SOON = 10.0


def read(write, seconds=SOON, most=None):
    """The pieces that come within the deadline, at most so many of them, and the answer."""

    async def run():
        writing, found = Writing(write, time.monotonic() + seconds), []
        async with aclosing(aiter(writing)) as pieces:
            async for piece in pieces:
                found.append(piece)
                if len(found) == most:
                    break
        return found, writing.answer

    return asyncio.run(run())


def test_pieces_come_in_order_and_then_the_answer():
    def write():
        yield from "abc"
        return "whole"

    assert read(write) == (["a", "b", "c"], "whole")


def test_an_error_comes_where_it_happened():
    def write():
        yield "a"
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        read(write)


def test_who_reads_no_more_ends_the_writing():
    ended = threading.Event()

    def write():
        try:
            for i in range(10**9):
                yield str(i)
                time.sleep(0.001)
        finally:
            ended.set()

    assert read(write, most=3)[0] == ["0", "1", "2"]
    assert ended.wait(SOON)


def test_a_deadline_ends_the_writing():
    ended = threading.Event()

    def write():
        try:
            while True:
                yield "a"
                time.sleep(0.005)
        finally:
            ended.set()

    with pytest.raises(Late):
        read(write, seconds=0.05)
    assert ended.wait(SOON)
