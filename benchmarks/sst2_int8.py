"""The main job on a real fine-tuned checkpoint: the numbers behind the README's table.

Run: python benchmarks/sst2_int8.py [CHECKPOINT] [DATA]
Writes benchmarks/results/sst2_int8.json: the report without raw samples, and what the whole run took.
"""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from pathlib import Path

import optkit
from optkit.events import Event, Note

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared"


def main(
    checkpoint: str = str(SHARED / "checkpoints" / "minilm-l6-sst2"),
    data: str = str(SHARED / "data" / "sst2"),
) -> None:
    out = HERE.parent / "models" / "sst2-int8"
    shutil.rmtree(out, ignore_errors=True)
    begun = time.monotonic()
    with TreeMemory() as memory:
        report = optkit.compress(checkpoint, optkit.Recipe.int8(), data=data, out=out, events=tell)
    result = report.to_dict()
    for row in result["rows"]:
        row["flips"] = len(row["flips"])
        for latency in row["latency"]:
            latency["samples_ms"] = [len(draw) for draw in latency["samples_ms"]]
    result["whole_run"] = {
        "seconds": round(time.monotonic() - begun, 1),
        "peak_tree_pss_bytes": memory.peak,
        "int8_over_fp32_onnx_size": round(
            report.chosen_row.size_bytes / report.row("onnxruntime-fp32").size_bytes, 4
        ),
    }
    for name in ("source", "artifact"):
        result.pop(name, None)
    file = HERE / "results" / "sst2_int8.json"
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["whole_run"]), f"in {file}")


class TreeMemory:
    """Peak memory of this process and all below it: proportional set size, every 0.1 s. Linux only.

    Resident sizes would count shared libraries once per process.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> TreeMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import os

        while not self._stop.wait(0.1):
            self.peak = max(self.peak, sum(map(_pss, _tree(os.getpid()))))


def _tree(root: int) -> list[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
    found, new = {root}, {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return sorted(found)


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def tell(event: Event) -> None:
    if isinstance(event, Note):
        print(event.text, file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
