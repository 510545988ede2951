"""A recipe of one's own: which passes in which order, what is tried side by side, and what must hold.

python examples/own_recipe.py [CHECKPOINT DATA]
"""

from pathlib import Path

from tiny import QUICK, given

import optkit

# Read from a file, as `optkit compress --recipe` does; `optkit recipe init` writes one to start from.
recipe = optkit.Recipe.load(Path(__file__).with_name("recipe.toml"))
# In Python: optkit.Recipe.of([optkit.Prune(0.5), "export-onnx", ...], optkit.Gate(...))
for chain in recipe.chains():
    print(" -> ".join(step.name() for step in chain))

checkpoint, data = given()
report = optkit.compress(checkpoint, recipe, data=data, out="work/own-recipe", force=True, **QUICK)
print("conditions:", report.gate.conditions)
for row in report.rows[2:]:
    print(row.name, row.verdict, *row.reasons)
print("why:", report.why)
