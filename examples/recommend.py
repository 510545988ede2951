"""Recommendation by text, from what users clicked: no ratings, only which items were taken of those shown.

python examples/recommend.py
"""

import json
import random
from pathlib import Path

import tiny

import optkit

#: A catalogue; users of one taste click what shares a word with it.
ITEMS = [
    f"{a} {b} {c}"
    for a in ("fine", "dull")
    for b in ("bright", "thin", "bad")
    for c in ("film", "plot", "cast")
]
TASTES = ("bright", "thin", "bad", "film", "plot", "cast")


def feedback(count: int, seed: int) -> list[dict]:
    """A user's query is what was taken before; candidates are what was shown, labels what was taken of it."""
    rng, rows = random.Random(seed), []
    for _ in range(count):
        taste = rng.choice(TASTES)
        before = rng.sample([item for item in ITEMS if taste in item], 2)
        shown = rng.sample([item for item in ITEMS if item not in before], 12)
        clicks = [int(taste in item and rng.random() < 0.9) for item in shown]
        rows.append({"query": " and ".join(before), "documents": shown, "relevances": clicks})
    return rows


checkpoint, data = tiny.checkpoint(Path("work/checkpoint")), Path("work/clicks")
data.mkdir(parents=True, exist_ok=True)
for split, count in (("train", 150), ("validation", 60)):
    lines = [json.dumps(row) + "\n" for row in feedback(count, count)]
    (data / f"{split}.jsonl").write_text("".join(lines))

settings = {"epochs": 2, "batch": 64, "learning_rate": 5e-3}
optkit.finetune(checkpoint, data, "work/recommender", task="rerank", force=True, **settings)
steps = ["export-onnx", "quantize-dynamic"]
report = optkit.compress("work/recommender", steps, data=data, out="work/recommend", force=True, **tiny.QUICK)
for row in report.rows:
    print(row.name, report.metric, round(row.score, 3))
recall = optkit.bench(["work/recommend"], data=data, metric="recall@10", **tiny.QUICK).rows[0].score
print("recall@10", round(recall, 3))

with optkit.load("work/recommend") as model:
    for best in model.predict_one(("fine bright film and dull bright plot", ITEMS)).results[:3]:
        print(round(best.score, 3), ITEMS[best.index])
