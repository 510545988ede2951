"""A against A: how often the harness claims a difference where there is none, and what it would find.

Run: python benchmarks/aa.py ARTIFACT DATA [COMPARISONS]
Writes benchmarks/results/aa.json. The slowdowns are the same samples with one side multiplied, so
they say what the statistics would find in this noise, not what a slower model does to the machine.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from optkit.artifact import Artifact
from optkit.bench.environment import NoiseLedger, describe
from optkit.bench.latency import measure
from optkit.bench.plan import Candidate, Plan, Shape
from optkit.bench.stats import difference_shown, ratio_interval
from optkit.data import Data
from optkit.task import Columns, open_task

HERE = Path(__file__).parent
SLOWDOWNS = (0.05, 0.10, 0.20, 0.30)


def main(artifact: str, data: str, comparisons: str = "40") -> None:
    task = open_task(Artifact.open(artifact))
    encoded = task.read(Data(data).split("validation"), Columns()).encoded
    shape, begun, results = Shape.parse("1x32"), time.monotonic(), []
    plan = Plan((shape,), threads=2)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "examples.npz"
        encoded.save(file)
        for i in range(int(comparisons)):
            ledger = NoiseLedger()
            found = measure([Candidate("a", artifact), Candidate("b", artifact)], file, plan)
            a, b = (found[name].samples[shape] for name in "ab")
            ratio = ratio_interval(a, b)
            slower = {
                f"{share:.0%}": ratio_interval(a, _scaled(b, 1 + share)).high < 1 for share in SLOWDOWNS
            }
            results.append(
                {
                    "value": round(ratio.value, 4),
                    "low": round(ratio.low, 4),
                    "high": round(ratio.high, 4),
                    "claimed": difference_shown(ratio),
                    "found_slower": slower,
                    "doubts": ledger.doubts(),
                }
            )
            print(i, results[-1], file=sys.stderr)
    summary = {
        "environment": describe(2),
        "plan": {"processes": plan.processes, "rounds": plan.rounds, "shape": str(shape)},
        "comparisons": len(results),
        "false_claims": sum(r["claimed"] for r in results),
        "false_claims_where_the_machine_was_quiet": sum(r["claimed"] for r in results if not r["doubts"]),
        "quiet_comparisons": sum(not r["doubts"] for r in results),
        "found_slower": {
            name: sum(r["found_slower"][name] for r in results) for name in results[0]["found_slower"]
        },
        "seconds_per_comparison": round((time.monotonic() - begun) / len(results), 1),
        "results": results,
    }
    (HERE / "results" / "aa.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in summary.items() if k not in ("results", "environment")}))


def _scaled(draws: list, factor: float) -> list:
    return [[[x * factor for x in samples] for samples in rounds] for rounds in draws]


if __name__ == "__main__":
    main(*sys.argv[1:])
