"""A task of one's own: what a row holds, how an answer reads; the rest is that of another task.

pip install --no-deps -e examples/plugin && python examples/own_task.py
"""

import json
from pathlib import Path

import tiny

import optkit

checkpoint, data = tiny.checkpoint(Path("work/checkpoint")), Path("work/reviews")
data.mkdir(parents=True, exist_ok=True)
for split in ("train", "validation"):
    rows = [{"review_body": row["text"], "verdict": row["label"]} for row in tiny.sentences(40)]
    (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

steps = ["export-onnx", "quantize-dynamic"]
report = optkit.compress(
    checkpoint, steps, data=data, task="reviews", out="work/own-task", force=True, **tiny.QUICK
)
print(report.task, report.metric, report.rows[-1].score)
with optkit.load("work/own-task") as model:
    for answer in model.predict(["a fine film", "the plot is thin"]):
        print(model.task.line(answer))
