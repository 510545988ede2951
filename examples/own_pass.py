"""A pass of one's own in a chain of optkit's.

pip install --no-deps -e examples/plugin && python examples/own_pass.py [CHECKPOINT DATA]
"""

from optkit_plugin_example import Sparsify
from tiny import QUICK, given

import optkit

checkpoint, data = given()
steps = ["export-onnx", Sparsify(share=0.2), "quantize-dynamic"]
report = optkit.compress(checkpoint, steps, data=data, out="work/own-pass", force=True, **QUICK)
print("chosen:", report.chosen)
for step in optkit.Artifact.open("work/own-pass").lineage:
    print(step["pass"], step["notes"].get("zeros", ""))
