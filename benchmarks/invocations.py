"""Every bad invocation and damaged file of tests/hostile, and how each ended: results/invocations.json.

    python benchmarks/invocations.py                    all of them
    python benchmarks/invocations.py serve compress     those of these verbs
    python benchmarks/invocations.py --every 10         each tenth
    python benchmarks/invocations.py --list             their number by verb

Exit code 1 where one ends with a traceback, hangs, says more than a line, or leaves something behind.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
FILE = ROOT / "benchmarks" / "results" / "invocations.json"


def main() -> int:
    from tests.hostile.campaign import Campaign

    parser = argparse.ArgumentParser()
    parser.add_argument("verbs", nargs="*", help="verbs, or damage; of two words: 'recipe init'")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    codes: dict[str, Counter[str]] = defaultdict(Counter)
    wrong, slowest, begun, count = [], 0.0, time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="optkit-invocations-") as folder:
        campaign = Campaign(Path(folder))
        tried = [x for x in campaign.trials() if not given.verbs or x.group in given.verbs]
        if given.list:
            numbers = Counter(x.group for x in tried)
            print(*(f"{n:5} {group}" for group, n in numbers.items()), sep="\n")
            return 0
        for trial in tried[given.first :: given.every]:
            ended, found = campaign.run(trial)
            count += 1
            codes[trial.group]["hangs" if ended.code is None else str(ended.code)] += 1
            slowest = max(slowest, ended.seconds)
            if found:
                wrong.append({"command": trial.name, "flaws": found})
                print(f"{trial.name}: {'; '.join(found)}\n    {ended.err.strip()[-400:]!r}", flush=True)
    seconds = round(time.monotonic() - begun)
    print(f"{count} invocations, {len(wrong)} wrong, {seconds} s, slowest {slowest:.1f} s")
    if not given.verbs:
        result = {
            "invocations": count,
            "of": len(tried),
            "every": given.every,
            "seconds": seconds,
            "slowest_s": round(slowest, 1),
            "wrong": wrong,
            "exit_codes": {group: dict(sorted(found.items())) for group, found in sorted(codes.items())},
        }
        FILE.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
