"""A gate in a continuous-integration job: this change's report against the one kept from the main branch.

python examples/compress.py && python examples/ci_gate.py work/int8/report.json BASELINE.json
"""

import sys

from optkit import Report
from optkit.benchmarking.compare import compare, markdown

new, baseline = (Report.load(file) for file in sys.argv[1:3])
found = compare(new, baseline, max_drop="1%", max_slowdown="10%")
print(markdown(found))  # for $GITHUB_STEP_SUMMARY
sys.exit(0 if found.passed else 3)
