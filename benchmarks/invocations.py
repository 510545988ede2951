"""Every bad invocation of tests/hostile/invocations.py, and how each ended: results/invocations.json.

    python benchmarks/invocations.py                  all of them
    python benchmarks/invocations.py serve compress   those of these verbs
    python benchmarks/invocations.py --list           their number by verb

Exit code 1 where one ends with a traceback, hangs, says more than a line, or leaves something behind.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
FILE = ROOT / "benchmarks" / "results" / "invocations.json"


def main(arguments: list[str]) -> int:
    from tests.hostile.forks import Forks
    from tests.hostile.invocations import cases, flaws
    from tests.hostile.scene import scene

    chosen = [case for case in cases() if not arguments or case.verb in arguments or "--list" in arguments]
    if "--list" in arguments:
        print(*(f"{count:5} {verb}" for verb, count in Counter(c.verb for c in chosen).items()), sep="\n")
        return 0
    codes: dict[str, Counter[str]] = defaultdict(Counter)
    wrong, slowest, begun = [], 0.0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="optkit-invocations-") as folder, Forks() as forks:
        root = scene(Path(folder) / "inputs")
        for case in chosen:
            work = Path(folder) / "work" / "here"
            work.mkdir(parents=True)
            ended, found = flaws(case, forks, root, work)
            shutil.rmtree(work.parent)
            codes[case.verb]["hangs" if ended.code is None else str(ended.code)] += 1
            slowest = max(slowest, ended.seconds)
            if found:
                wrong.append({"command": case.name, "flaws": found})
                print(f"{case.name}: {'; '.join(found)}\n    {ended.err.strip()[-300:]!r}", flush=True)
            if any("inputs changed" in flaw for flaw in found):
                shutil.rmtree(root)
                scene(root)
    seconds = round(time.monotonic() - begun)
    print(f"{len(chosen)} invocations, {len(wrong)} wrong, {seconds} s, slowest {slowest:.1f} s")
    if not arguments:
        result = {
            "invocations": len(chosen),
            "seconds": seconds,
            "slowest_s": round(slowest, 1),
            "wrong": wrong,
            "exit_codes": {verb: dict(sorted(found.items())) for verb, found in sorted(codes.items())},
        }
        FILE.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
