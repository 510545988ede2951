"""A gate in a continuous-integration job: this change's report against the one kept from the main branch.

python examples/compress.py && python examples/ci_gate.py work/int8/report.json BASELINE.json
"""

import sys

import optkit

found = optkit.gate(sys.argv[1], sys.argv[2], max_drop="1%", max_slowdown="10%")
print(f"{found.metric}: {found.drop.value:+.4f} lost; speed {found.speed}")
print("passes" if found.passed else "fails: " + "; ".join(found.reasons))
sys.exit(0 if found.passed else 3)
