"""A against A: how often the harness claims a difference where there is none, and what it finds.

Run: python benchmarks/aa.py ARTIFACT DATA
Writes benchmarks/results/aa.json; about 25 minutes. The slowdown is real: the worker burns the CPU for
5% of each answer's time before it reports that answer.

Prediction, written before the run: the default plan claims a difference in at most 2 of 40, and
needs a slowdown of 15% to see it reliably; the careful plan sees 5% in at least 9 of 10.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from optkit.bench.environment import describe
from optkit.self_check import self_check

HERE = Path(__file__).parent
SHAPE, SLOWDOWN = "1x128", 0.05
#: Name → fields of the plan, number of comparisons. 1 × 128 tokens is bound by matrix multiplies.
PLANS = {
    "default": ({"threads": 2}, 40),
    "careful": ({"threads": 2, "processes": 8, "rounds": 20, "budget_ms_per_round": 30.0}, 20),
}


def main(artifact: str, data: str) -> None:
    results = {"environment": describe(2), "shape": SHAPE, "slowdown": SLOWDOWN, "plans": {}}
    for name, (plan, comparisons) in PLANS.items():
        found = self_check(
            artifact,
            slowdown=SLOWDOWN,
            comparisons=comparisons,
            data=data,
            shape=SHAPE,
            plan=plan,
            listener=lambda event: print(event.get("text", ""), file=sys.stderr),
        )
        results["plans"][name] = {"plan": plan, **json.loads(found.to_json())}
        print(f"{name}: {found.sentence()}")
        (HERE / "results" / "aa.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
