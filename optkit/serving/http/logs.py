"""Structured logs: one JSON object per line on stderr. What users send is never among the fields."""

from __future__ import annotations

import json
import logging
import os
import sys
import time


def log(level: str, event: str, **fields: object) -> None:
    """Write one line.

    >>> log("info", "started", model="small")  # doctest: +SKIP
    {"time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "started", "pid": 7, "model": "small"}
    """
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    line = {"time": stamp, "level": level, "event": event, "pid": os.getpid(), **fields}
    sys.stderr.write(json.dumps(line, default=str) + "\n")  # in one piece: other threads write too
    sys.stderr.flush()


class Lines(logging.Handler):
    """What is logged elsewhere (uvicorn: starts, stops, dead workers), in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"error": record.exc_info[0].__name__} if record.exc_info and record.exc_info[0] else {}
        log(record.levelname.lower(), record.getMessage(), source=record.name, **fields)


def set_up(level: int = logging.INFO) -> None:
    """Send the server's own log to stderr as JSON, and nothing through anyone else's handlers."""
    for name in ("uvicorn", "optkit"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [Lines()]
        logger.setLevel(level)
        logger.propagate = False
