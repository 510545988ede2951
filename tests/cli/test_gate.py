from __future__ import annotations

import pytest

from tests.benchmarking.test_compare import report


@pytest.fixture
def gate(run, tmp_path):
    """gate(new, *flags) → (exit code, stdout, stderr) of `optkit gate` against report()."""

    def gate(new, *flags, old=None):
        new.save(tmp_path / "new.json")
        (old or report()).save(tmp_path / "old.json")
        return run("gate", tmp_path / "new.json", "--baseline", tmp_path / "old.json", *flags)

    return gate


def test_exit_codes(gate):
    assert gate(report())[0] == 0
    assert gate(report(score=0.8))[0] == 3
    assert gate(report(score=0.8), "--max-drop", "0.2")[0] == 0
    assert gate(report(metric="f1"))[0] == 5
    assert gate(report(schema="optkit.report/0"))[0] == 5


def test_the_job_summary_is_appended_to(gate, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    code, out, _ = gate(report(score=0.8))
    assert code == 3
    assert summary.read_text() == "before\n" + out
    assert "❌" in out


def test_compare_and_merge(gate, run, tmp_path):
    gate(report(score=0.8))
    files = [tmp_path / name for name in ("new.json", "old.json")]
    for arguments in (["compare", *files], ["merge", *files, "--out", tmp_path / "both.json"]):
        code, out, _ = run("report", *arguments)
        assert code == 0
        assert "passes" not in out
        assert "fails" not in out
    assert (tmp_path / "both.json").exists()
