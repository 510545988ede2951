from __future__ import annotations

import pytest


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to work in; code that is run writes `canary` beside it."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    return tmp_path
