"""The README says what the benchmark measured, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "benchmarks/README.md",
]


def test_the_tables_are_those_of_the_results():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks/tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = "".join(page.read_text(encoding="utf-8") for page in module.pages())
    assert {name for _, name, _, _ in module.BETWEEN.findall(text)} == set(module.TABLES)
    assert module.drawn(text) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_local_link_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_pass_and_task_has_a_page():
    from optkit.passes import PASSES
    from optkit.tasks import TASKS

    for folder, names in (("passes", PASSES), ("tasks", TASKS)):
        for name in names:
            assert (ROOT / "docs" / folder / f"{name}.md").exists(), f"docs/{folder}/{name}.md"


def test_the_exit_codes_in_the_docs_are_the_ones_in_the_code():
    from optkit.errors import OptkitError

    text = (ROOT / "docs/measuring.md").read_text(encoding="utf-8")
    documented = {int(c) for c in re.findall(r"^\| (\d+)", text, re.M)}
    codes = {OptkitError.exit_code, *(cls.exit_code for cls in OptkitError.__subclasses__())}
    assert codes <= documented
