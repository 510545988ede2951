"""The README's table, drawn from results/sst2_int8.json. Run: python benchmarks/readme_table.py [--write]

`tests/test_readme.py` compares the README with what this gives.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
MARKS = ("<!-- table: benchmarks/readme_table.py -->", "<!-- end -->")


def table() -> str:
    report = json.loads((HERE / "results" / "sst2_int8.json").read_text(encoding="utf-8"))
    lines = [
        "| | size | accuracy, paired change [95%] | ms, own lengths | speedup [95%] |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in report["rows"]:
        latency = next(x for x in row["latency"] if (x["batch"], x["tokens"]) == (1, "data"))
        score, speed = f"{row['score']:.4f}", "1"
        if row["drop"]:
            drop = row["drop"]
            score += f", {0 - drop['value']:+.4f} [{-drop['high']:+.4f}, {-drop['low']:+.4f}]"
        if row["speedup"]:
            ratio = row["speedup"]
            speed = f"{ratio['value']:.1f}× [{ratio['low']:.1f}, {ratio['high']:.1f}]"
        name = f"**{row['name']}**" if row["name"] == report["chosen"] else row["name"]
        lines.append(
            f"| {name} | {row['size_bytes'] / 1e6:.1f} MB | {score} | {latency['p50_ms']:.1f} | {speed} |"
        )
    return "\n".join(lines)


def written() -> str:
    """What the README holds between the marks."""
    text = README.read_text(encoding="utf-8")
    return text.split(MARKS[0])[1].split(MARKS[1])[0].strip()


def write() -> None:
    text = README.read_text(encoding="utf-8")
    between = re.compile(rf"({re.escape(MARKS[0])}\n).*?(\n{re.escape(MARKS[1])})", re.S)
    README.write_text(between.sub(lambda m: m.group(1) + table() + m.group(2), text), encoding="utf-8")


if __name__ == "__main__":
    write() if "--write" in sys.argv else print(table())
