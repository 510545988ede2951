from __future__ import annotations

import sys

import pytest

from optkit import cli
from tests.benchmarking.test_compare import report


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """run(new, *flags) → (exit code, stdout, stderr) of `optkit gate` against report()."""

    def run(new, *flags, old=None):
        new.save(tmp_path / "new.json")
        (old or report()).save(tmp_path / "old.json")
        files = ["gate", str(tmp_path / "new.json"), "--baseline", str(tmp_path / "old.json")]
        monkeypatch.setattr(sys, "argv", ["optkit", *files, *flags])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return (stopped.value.code, *capsys.readouterr())

    return run


def test_exit_codes(run):
    assert run(report())[0] == 0
    assert run(report(score=0.8))[0] == 3
    assert run(report(score=0.8), "--max-drop", "0.2")[0] == 0
    assert run(report(metric="f1"))[0] == 5
    assert run(report(schema="optkit.report/0"))[0] == 5


def test_the_job_summary_is_appended_to(run, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    code, out, _ = run(report(score=0.8))
    assert code == 3
    assert summary.read_text() == "before\n" + out
    assert "❌" in out


def test_compare_and_merge(run, tmp_path, monkeypatch, capsys):
    run(report(score=0.8))
    files = [str(tmp_path / name) for name in ("new.json", "old.json")]
    for arguments in (["compare", *files], ["merge", *files, "--out", str(tmp_path / "both.json")]):
        monkeypatch.setattr(sys, "argv", ["optkit", "report", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 0
        out = capsys.readouterr().out
        assert "passes" not in out
        assert "fails" not in out
    assert (tmp_path / "both.json").exists()
