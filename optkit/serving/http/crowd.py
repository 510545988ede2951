"""`Crowd`: all connections of a process, and which to end when there are too many: the longest idle."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optkit.serving.http.connection import Connection

#: Files that a process needs beside its connections.
OTHER_FILES = 64


class Crowd:
    """A connection is idle while it owes no answer: between two requests, or within a head."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._count = 0
        self._idle: dict[Connection, None] = {}  # the longest idle first

    def enter(self, connection: Connection) -> bool:
        """Take it in, as idle. False where all others are busy: there is no room then."""
        if self._count >= self.most:
            if not self._idle:
                return False
            oldest = next(iter(self._idle))
            self.leave(oldest)
            oldest.give_way()
        self._count += 1
        self._idle[connection] = None
        connection.entered = True
        return True

    def busy(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        if connection.entered:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def leave(self, connection: Connection) -> None:
        """Calling it twice is fine."""
        if connection.entered:
            connection.entered = False
            self._count -= 1
            self._idle.pop(connection, None)


def room(wanted: int) -> int:
    """`wanted` connections, or as many as the process may have files; it asks for more files first."""
    try:
        import resource
    except ImportError:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < needed:
        soft = needed if hard == unlimited else min(hard, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == unlimited else max(1, min(wanted, soft - OTHER_FILES))
