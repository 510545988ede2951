"""A reranker from SQuAD to a server: trained, in INT8, beside sentence-transformers.

Run: python benchmarks/rerank.py CHECKPOINT SQUAD [WORK] [--queries 400] [--validation 200] [--seconds 90]
Writes benchmarks/results/rerank.json.

Data: a question is the query, its paragraph the right candidate, and the paragraphs of the same file that
share most words with the question (weighted by their rarity) the wrong ones: 4 in training, 9 in
validation. A small model that was trained on sentiment, and few questions: its score shows that the path
was walked and no more; what INT8 costs and gains is measured on it all the same. Latency: `optkit
compress`, all models interleaved, the checkpoint in torch as the baseline. Throughput: 64 clients of 100
candidates each (the first 200 characters of paragraphs) ask `optkit serve`, and a FastAPI application
around `CrossEncoder.predict`, in turns, each started anew.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from serve import HERE, Server, ours, ratio

import optkit
from optkit.benchmarking.environment import describe

CLIENTS, CANDIDATES, CHARACTERS = 64, 100, 200


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def ranked(file: Path, count: int, wrong: int) -> list[dict]:
    """`count` questions drawn with a fixed seed, each with its paragraph among `wrong` others, shuffled."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    contexts = list(dict.fromkeys(row["context"] for row in rows))
    sets = [words(text) for text in contexts]
    often = Counter(word for one in sets for word in one)
    random, found = np.random.default_rng(0), []
    for i in sorted(random.permutation(len(rows))[:count]):
        question, right = rows[i]["question"], rows[i]["context"]
        asked = words(question)
        shared = [sum(math.log(len(sets) / often[w]) for w in asked & one) for one in sets]
        best = [contexts[j] for j in np.argsort(shared)[::-1] if contexts[j] != right][:wrong]
        documents = [([right, *best])[j] for j in random.permutation(wrong + 1)]
        found.append(
            {"query": question, "documents": documents, "relevances": [int(d == right) for d in documents]}
        )
    return found


def served(model: Path, checkpoint: Path, data: Path, seconds: float, rounds: int) -> dict:
    rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
    texts = list(dict.fromkeys(d[:CHARACTERS] for row in rows for d in row["documents"]))[:CANDIDATES]
    body = '{"query": TEXT, "documents": ' + json.dumps(texts).replace("TEXT", "text") + "}"
    queries = data.parent / "queries.jsonl"
    queries.write_text("".join(json.dumps({"text": row["query"]}) + "\n" for row in rows))
    flags = ("--queue", str(CLIENTS * CANDIDATES), "--timeout", "600")
    command = [sys.executable, str(HERE / "peers/fastapi_cross_encoder.py"), str(checkpoint), "8212"]
    servers = [
        ours("optkit serve, INT8", str(model), 8211, *flags),
        Server("fastapi + CrossEncoder.predict, fp32", command, 8212),
    ]
    for server in servers:
        server.path, server.body = "/v1/rerank", body
    for _ in range(rounds):
        for server in servers:  # a new one each time: nothing waits in it from the round before
            try:
                server.start()
                server.results.append(server.load(str(queries), CLIENTS, seconds))
            finally:
                if server.process:
                    server.signal(signal.SIGKILL)
                    server.process.wait()
    rates = {s.name: [CANDIDATES * r["per_second"] for r in s.results] for s in servers}
    return {
        "clients": CLIENTS,
        "candidates": CANDIDATES,
        "candidates_per_second": rates,
        "p50_ms": {s.name: [r["p50_ms"] for r in s.results] for s in servers},
        "codes": {s.name: [r["codes"] for r in s.results] for s in servers},
        "ratio": ratio(*rates.values()) if rounds > 1 else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("squad", type=Path)
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--validation", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()
    work = a.work or Path(tempfile.mkdtemp(prefix="optkit-rerank-"))
    data, load = work / "data", os.getloadavg()
    data.mkdir(parents=True, exist_ok=True)
    for split, count, wrong in (("train", a.queries, 4), ("validation", a.validation, 9)):
        rows = ranked(a.squad / f"{split}.jsonl", count, wrong)
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tuned, small = work / "reranker", work / "int8"
    if not tuned.exists():
        optkit.finetune(a.checkpoint, data, tuned, task="rerank", epochs=1, batch=32, max_length=192)
    if not small.exists():
        optkit.compress(tuned, data=data, out=small, int8=True, shapes=("1xdata",), rounds=3)
    report = json.loads((small / "report.json").read_text(encoding="utf-8"))
    result = {
        "environment": describe(),
        "load_average": {"before": load, "after": os.getloadavg()},
        "queries": {"train": a.queries, "validation": a.validation},
        **{key: report[key] for key in ("metric", "chosen", "seconds", "rows")},
        "served": served(small, tuned, data, a.seconds, a.rounds),
    }
    (HERE / "results" / "rerank.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
