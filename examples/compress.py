"""A checkpoint becomes an INT8 artifact with a report: the main job.

python examples/compress.py [CHECKPOINT DATA]
"""

from tiny import QUICK, given

import optkit

checkpoint, data = given()
report = optkit.compress(checkpoint, ["int8"], data=data, out="work/int8", force=True, **QUICK)
for row in report.rows:
    speed = f"{row.speedup.value:.2f} times as fast" if row.speedup else ""
    print(f"{row.name:18} {row.score:.4f} {row.size_bytes / 1e6:6.2f} MB  {speed:20} {row.verdict}")
print("chosen:", report.chosen)

with optkit.load("work/int8") as model:  # needs no torch: it may be another process on another machine
    for answer in model.predict(["a fine film", "the plot is thin"]):
        print(answer.label, round(answer.score, 3))
