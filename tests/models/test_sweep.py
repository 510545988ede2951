"""The architectures that are used most, each in its first task, against plain transformers.

All of them, in all of their tasks, and in INT8: `python benchmarks/models.py`, which writes docs/models.md.
"""

from __future__ import annotations

import pytest

from tests.models.families import FAMILIES
from tests.models.sweep import sweep


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.quick], ids=lambda family: family.name)
def test_it_answers_as_transformers_or_is_refused_before_any_work(family, tmp_path):
    row = sweep(family, family.tasks[0], tmp_path)
    assert "wrong" not in row, row["wrong"]
    assert row["torch"] == "right"
    assert row["export-onnx"].startswith(("right", "refused: "))
