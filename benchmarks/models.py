"""Try every architecture of tests/models/families.py in all of its tasks, and write docs/models.md.

    python benchmarks/models.py              all of them (about an hour on one core)
    python benchmarks/models.py BERT "GPT-2" these again
    python benchmarks/models.py --wrong      what was wrong the last time, and what is new
    python benchmarks/models.py --page       write the page alone

benchmarks/results/models.json holds what came out; nothing stands on the page that is not in it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

RESULTS = ROOT / "benchmarks" / "results" / "models.json"
PAGE = ROOT / "docs" / "models.md"
_PASSES = ("prune", "prune-width", "take-layers", "prune-vocabulary", "distill")
_INT8 = {
    "quantize-dynamic": "ONNX Runtime",
    "quantize-static": "ONNX Runtime",
    "quantize-weights": "ONNX Runtime",
}


def main(arguments: list[str]) -> int:
    rows = {(r["family"], r["task"]): r for r in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    if "--page" not in arguments:
        rows = run(rows, arguments)
    PAGE.write_text(page(list(rows.values())), encoding="utf-8")
    wrong = [f"{r['family']}, {r['task']}: {r['wrong']}" for r in rows.values() if "wrong" in r]
    print("\n".join([*wrong, f"{len(rows)} combinations, {len(wrong)} wrong"]))
    return 1 if wrong else 0


def run(
    rows: dict[tuple[str, str], dict[str, Any]], arguments: list[str]
) -> dict[tuple[str, str], dict[str, Any]]:
    """`rows` with what `arguments` ask for tried anew; the results are written after each."""
    import torch

    from tests.models.families import FAMILIES
    from tests.models.several import OUTPUTS
    from tests.models.sweep import sweep

    torch.set_num_threads(1)
    names = [a for a in arguments if not a.startswith("--")]
    order = [(family, task) for family in FAMILIES for task in family.tasks]
    firsts = sorted(order, key=lambda x: x[1] != x[0].tasks[0])  # what is tried most thoroughly comes first
    for family, task in firsts:
        old = rows.get((family.name, task))
        if (names and family.name not in names) or ("--wrong" in arguments and old and "wrong" not in old):
            continue
        with tempfile.TemporaryDirectory() as folder:
            first = task == family.tasks[0]
            both = family.quick and (first or task in OUTPUTS)
            int8 = ("quantize", "open-vino-int8") if both else ("quantize",) if first else ()
            row = sweep(family, task, Path(folder), int8, passes=_PASSES if first else ())
        rows[family.name, task] = row
        print(
            f"{family.name}, {task}: {row.get('wrong') or row.get('export-onnx') or row['torch']}", flush=True
        )
        known = [rows[f.name, t] for f, t in order if (f.name, t) in rows]
        RESULTS.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return {(f.name, t): rows[f.name, t] for f, t in order if (f.name, t) in rows}


def page(rows: list[dict[str, Any]]) -> str:
    """docs/models.md as it follows from the results."""
    from tests.models.families import POSITIONS, WINDOW

    right = [r for r in rows if r.get("export-onnx", "").startswith("right")]
    refused = [r for r in rows if "wrong" not in r and r not in right]
    families = len({r["family"] for r in rows})
    lines = [
        "# Models",
        "",
        "Written by `python benchmarks/models.py`, from benchmarks/results/models.json.",
        f"{families} architectures, {len(rows)} combinations with a task: {len(right)} compress,",
        f"{len(refused)} are refused in part or whole, {len(rows) - len(right) - len(refused)} are wrong.",
        "",
        "Each is a small model with random weights. optkit's answers in torch and in ONNX are compared with",
        "those of transformers alone (its tokenizer or processor, its padding, its model): at few tokens, at",
        f"{WINDOW - 1}, {WINDOW} and {WINDOW + 1} (the window of those that have one), at twice that, at",
        f"the longest, {POSITIONS}, each by itself and all in one padded batch. *right*: equal to 1e-4 of",
        "the range of the answers; *fused*: attention is one operator, *plain*: standard ones, for a reason",
        "below. INT8, in each architecture's first task (for those used most in OpenVINO too, and in tasks",
        "from rerank on): the correlation of the answers with those of transformers; of random",
        "weights this shows that it works, not what it costs. In text2text texts are compared, token for",
        "token, greedily and with four beams. An empty cell was not tried.",
        "",
        "| architecture | task | torch | ONNX | INT8, ONNX Runtime | INT8, OpenVINO |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    notes: list[str] = []
    plain: list[str] = []
    for row in rows:
        cells = [row.get("torch", ""), row.get("export-onnx", "")]
        cells += [next((row[name] for name in _INT8 if name in row), ""), row.get("open-vino-int8", "")]
        if "wrong" in row:
            cells = [f"wrong: {row['wrong']}", "", "", ""]
        cells = [_cell(cell, notes) for cell in cells]
        if "plain, since" in row:
            cells[1] += f" ({_number(row['plain, since'], plain)})"
        lines.append(f"| {row['family']} | {row['task']} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Passes that change the checkpoint",
        "",
        "Tried in each architecture's first task. *works*: the result loads again and answers in finite",
        "numbers; without the tokens that the texts do not use, it answers as before.",
        "",
        f"| architecture | {' | '.join(_PASSES)} |",
        f"| --- |{' --- |' * len(_PASSES)}",
    ]
    for row in rows:
        if any(name in row for name in _PASSES):
            lines.append(f"| {row['family']} | {' | '.join(_cell(row.get(n, ''), notes) for n in _PASSES)} |")
    for title, words in (("Why attention is plain", plain), ("Refusals", notes)):
        if words:
            lines += ["", f"## {title}", "", *(f"{i}. {note}" for i, note in enumerate(words, start=1))]
    return "\n".join(lines) + "\n"


def _cell(text: str, notes: list[str]) -> str:
    """A cell of a table; the words of a refusal stand below, numbered."""
    if not text.startswith("refused: "):
        return text.replace("|", "/").replace("\n", " ")
    return f"refused ({_number(text.removeprefix('refused: '), notes)})"


def _number(words: str, notes: list[str]) -> int:
    """The place of `words` in the list below the tables, from 1; they are put there."""
    if words not in notes:
        notes.append(words)
    return notes.index(words) + 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
