"""How much longer one ONNX graph takes than another: a quick look while a pass runs, nothing for a table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np

from optkit.runtimes import kv_cache

#: Rounds in which both graphs answer, after the first, which is not counted; fewer where they take longer
#: than so many seconds.
ROUNDS, SECONDS = 15, 1.0


def ratio(one: Path, other: Path, feeds: Mapping[str, np.ndarray]) -> float:
    """Time of the graph `one` over that of `other`, both files: the median over rounds in which each answers
    `feeds` once, so that what disturbs the machine disturbs both. On one thread, in ONNX Runtime."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    sessions = [
        onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        for file in (one, other)
    ]
    given = [kv_cache.selected(feeds, session.get_inputs()) for session in sessions]
    begun, ratios = perf_counter(), []
    for done in count():
        times = []
        for session, arrays in zip(sessions, given):
            before = perf_counter()
            session.run(None, arrays)
            times.append(perf_counter() - before)
        if done:
            ratios.append(times[0] / times[1])
        if done == ROUNDS or (ratios and perf_counter() - begun > SECONDS):
            return statistics.median(ratios)
    raise AssertionError("count() never ends")
