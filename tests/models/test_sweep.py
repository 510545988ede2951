"""The architectures that are used most, each in its first task, against plain transformers.

All of them, in all of their tasks, and in INT8: `python benchmarks/models.py`, which writes docs/models.md.
"""

from __future__ import annotations

import pytest

from tests.models.families import FAMILIES
from tests.models.sweep import sweep

#: What is wrong today, and known.
KNOWN = {
    "ModernBERT": "its local layers are fused without their window",
    "GPT-2": "its causal mask is fused away",
    "Llama": "grouped heads cannot be traced",
    "Qwen2": "grouped heads cannot be traced",
    "Qwen3": "grouped heads cannot be traced",
    "Swin": "its graph cannot be loaded",
}


def cases():
    for family in (f for f in FAMILIES if f.quick):
        reason = KNOWN.get(family.name)
        marks = [pytest.mark.xfail(raises=AssertionError, reason=reason, strict=True)] if reason else []
        yield pytest.param(family, id=family.name, marks=marks)


@pytest.mark.parametrize("family", cases())
def test_it_answers_as_transformers_or_is_refused_before_any_work(family, tmp_path):
    row = sweep(family, family.tasks[0], tmp_path, int8=False)
    assert "wrong" not in row, row["wrong"]
    assert row["torch"] == "right"
    assert row["export-onnx"].startswith(("right", "refused: "))
