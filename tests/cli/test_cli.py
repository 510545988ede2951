"""The command line: exit codes, what goes to stdout and what to stderr. The loop itself is faked."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from inspect import signature

import pytest

import optkit
from optkit import cli
from optkit.benchmarking.gate import Gate
from optkit.compression.flags import recipe_of
from optkit.core.quantities import listed
from optkit.errors import DataError, Interrupted
from optkit.events import Note
from optkit.report.facts import Environment
from optkit.report.interval import Interval
from optkit.report.model import Latency, Report, Row


def example(passed: bool = True) -> Report:
    verdict = "passed" if passed else "failed"
    rows = [
        Row(
            name, "x", "fake", "int8", 10_000_000, 0.9, -0.01, 0.99,
            [Latency(1, "data", 1.0, 2.0, 3.0, [[1.0, 2.0]])],
            Interval(2.0, 1.9, 2.1), 100_000_000, 1.0, verdict,
        )
        for name, verdict in (("torch-fp32", "baseline"), ("quantize-static", verdict))
    ]  # fmt: skip
    data = {"name": "d", "split": "validation", "examples": 5, "sha256": "0"}
    gate, machine = Gate().result(rows[1]), Environment()
    return Report("text-classification", "accuracy", data, "cpu", machine, rows, "quantize-static", gate)


@pytest.fixture
def fake_compress(monkeypatch):
    """Replace the loop; `calls` collects what it was given, `result` is what it returns or raises."""
    flags = [name for name in signature(recipe_of).parameters if name not in ("recipe", "unlabelled")]

    class Fake:
        def __init__(self):
            self.calls, self.result = [], example()

    fake = Fake()

    def compress(checkpoint, recipe, events, **options):
        unlabelled = options["unlabelled"] if options["distill"] else None
        plan = recipe_of(recipe, unlabelled=unlabelled, **{name: options[name] for name in flags})
        fake.calls = [(checkpoint, plan, {**options, "shapes": listed(options["shapes"])})]
        events(Note("working"))
        if isinstance(fake.result, BaseException):
            raise fake.result
        return fake.result

    monkeypatch.setattr(optkit, "compress", compress)
    return fake


BASE = ("compress", "ckpt", "--data", "d", "--out", "o")


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (("--prune", "0.6"), ["prune", "export-onnx"]),
        (("--int8", "--prune", "0.6"), ["prune", "export-onnx", "quantize-dynamic"]),
    ],
)
def test_prune_comes_first(run, fake_compress, flags, names):
    run(*BASE, *flags)
    chain = fake_compress.calls[0][1].chains()[0]
    assert [step.name() for step in chain] == names
    assert chain[0].share == 0.6


def test_what_distill_is_given_reaches_the_recipe(run, fake_compress):
    run(*BASE, "--distill", "--epochs", "8", "--unlabelled", "more.txt")
    (distill,) = (s for s in fake_compress.calls[0][1].chains()[0] if s.name() == "distill")
    assert (distill.epochs, distill.teacher, distill.unlabelled) == (8, None, "more.txt")


@pytest.mark.parametrize("flag", [("--epochs", "8"), ("--layers", "3"), ("--teacher", "t")])
def test_flags_of_distill_need_it(run, fake_compress, flag):
    code, _, err = run(*BASE, "--prune", "0.6", *flag)
    assert code == 2
    assert f"{flag[0]} needs --distill" in err
    assert not fake_compress.calls


def test_a_share_of_one_is_refused(run, fake_compress):
    code, _, err = run(*BASE, "--prune", "1")
    assert code == 2
    assert "a share above 0, below 1" in err
    assert not fake_compress.calls


def test_flags_become_the_same_python_call(run, fake_compress):
    code, _, err = run(
        *BASE, "--int8", "--max-drop", "0.02", "--min-speedup", "1.5", "--text-column", "t",
        "--shapes", "1x8,2x8", "--threads", 1, "--rounds", 3, "--limit", 7, "--force",
    )  # fmt: skip
    assert code == 0, err
    source, recipe, options = fake_compress.calls[0]
    assert source == "ckpt"
    assert (recipe.gate.max_drop, recipe.gate.relative, recipe.gate.min_speedup) == (0.02, False, 1.5)
    assert (options["shapes"], options["threads"], options["rounds"]) == (("1x8", "2x8"), 1, 3)
    assert (options["limit"], options["force"], options["columns"].text) == (7, True, "t")


def test_the_table_goes_to_stdout_and_progress_to_stderr(run, fake_compress):
    _, out, err = run(*BASE, "--int8")
    assert "quantize-static" in out
    assert "working" in err
    assert "working" not in out
    assert "\x1b[" not in out + err, "no colour where there is no terminal"


def test_quiet_prints_the_result_only(run, fake_compress):
    _, out, err = run(*BASE, "--int8", "--quiet")
    assert "quantize-static" in out
    assert err == ""


def test_json_is_the_report_and_nothing_else(run, fake_compress):
    _, out, err = run(*BASE, "--int8", "--json")
    assert Report.from_dict(json.loads(out)).chosen == "quantize-static"
    assert "working" in err


def test_no_candidate_is_exit_3_after_the_table(run, fake_compress):
    fake_compress.result = example(passed=False)
    code, out, err = run(*BASE, "--int8")
    assert code == 3
    assert "quantize-static" in out
    assert "No candidate passed the gate (at most 1% of the score lost)" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("Expected x, received y.", hint="Do z."), 5),
        (KeyboardInterrupt(), 130),
        (Interrupted(exit_code=143), 143),
        (RuntimeError("surprise"), 1),
    ],
)
def test_every_error_has_its_exit_code(run, fake_compress, error, code):
    fake_compress.result = error
    found, out, err = run(*BASE, "--int8")
    assert found == code
    assert "error:" in err
    assert out == ""
    if isinstance(error, DataError):
        assert err.endswith("error: Expected x, received y.\nhint: Do z.\n")
    if isinstance(error, RuntimeError):
        assert "bug in optkit" in err


def test_a_missing_package_names_its_extra(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)  # as on a base install
    (tmp_path / "model.onnx").touch()
    code, out, err = run("bench", tmp_path / "model.onnx")
    assert (code, out) == (7, "")
    assert err.endswith(
        "'onnx', which is not installed.\nhint: Install it with: pip install \"optkit[compress]\"\n"
    )


@pytest.mark.parametrize("flags", [(), ("--int8", "--recipe", "r.toml")])
def test_either_int8_or_a_recipe(run, fake_compress, flags):
    code, _, err = run(*BASE, *flags)
    assert code == 2
    assert "either passes (--prune, --distill, --prune-vocabulary, --int8, --target cuda) or --recipe" in err


def test_an_unknown_flag_is_exit_2(run):
    code, _, err = run("compress", "x", "--int9")
    assert code == 2
    assert "--int9" in err


def test_a_recipe_gate_yields_to_flags(run, fake_compress, tmp_path):
    run("recipe", "init", tmp_path / "r.toml")
    run(*BASE, "--recipe", tmp_path / "r.toml", "--max-drop", "3%")
    assert fake_compress.calls[0][1].gate.max_drop == pytest.approx(0.03)


def test_recipe_init_and_check(run, tmp_path):
    file = tmp_path / "r.toml"
    assert run("recipe", "init", file)[0] == 0
    assert run("recipe", "init", file)[0] == 6
    code, out, _ = run("recipe", "check", file)
    assert code == 0
    assert "export-onnx → quantize-static" in out
    file.write_text(file.read_text().replace("quantize-static", "quantise-static"))
    code, _, err = run("recipe", "check", file)
    assert code == 2
    assert "Did you mean 'quantize-static'?" in err


def test_passes_lists_parameters_defaults_and_meanings(run):
    code, out, _ = run("passes")
    assert code == 0
    assert 'calibration = "min-max"  how a range follows from the values seen' in out
    listed = json.loads(run("passes", "--json")[1])
    assert listed["quantize-static"]["needs_data"] is True
    assert run("passes", "export-onx")[2].endswith("hint: Did you mean 'export-onnx'?\n")


def test_info_of_a_checkpoint(run, checkpoint):
    code, out, _ = run("info", checkpoint)
    assert code == 0
    assert "hf, fp32" in out


def test_report_render(run, tmp_path):
    example().save(tmp_path / "report.json")
    code, out, _ = run("report", "render", tmp_path / "report.json", "--format", "markdown")
    assert code == 0
    assert "quantize-static" in out
    assert run("report", "render", tmp_path)[1] == out, "the folder will do"
    code, _, err = run("report", "render", tmp_path / "report.json", "--format", "pdf")
    assert code == 2
    assert "Unknown report format" in err


def test_version(run):
    from optkit import __version__

    assert run("--version")[:2] == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    ("command", "code", "lines"),
    [
        ("passes | true", 6, 1),
        ("--help | true", 6, 1),
        ("passes > /dev/full", 6, 1),
        ("passes > /dev/full 2> /dev/full", 6, 0),
        ("passes --none 2> /dev/full", 2, 0),
    ],
)
def test_output_that_cannot_be_written_ends_with_a_code_and_a_line(command, code, lines):
    command = f"set -o pipefail; {sys.executable} -m optkit {command}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, lines)
    assert done.stderr.startswith("error: Could not write all of the output" if lines else "")


def test_predict_reads_lines(run, checkpoint, tmp_path):
    (tmp_path / "in.txt").write_text("a fine film\nthe plot is thin\n")
    code, out, err = run("predict", checkpoint, "--input", tmp_path / "in.txt", "--json")
    assert code == 0, err
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["a fine film", "the plot is thin"]
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9")
    assert run("predict", checkpoint, "--input", tmp_path / "bad.txt")[0] == 5


def test_predict_divides_lines_at_line_feeds_only(run, checkpoint, tmp_path):
    texts = ["a\u2028fine\x85film", "the\x0cplot"]
    (tmp_path / "in.txt").write_bytes("\r\n".join(texts).encode())
    code, out, err = run("predict", checkpoint, "--input", tmp_path / "in.txt", "--json")
    assert code == 0, err
    assert [json.loads(line)["text"] for line in out.strip().split("\n")] == texts


@pytest.mark.parametrize(
    ("ending", "hint"), [("jsonl", "--output"), ("parquet", "--output"), ("csv", ".jsonl"), ("tsv", ".txt")]
)
def test_predict_takes_no_rows_for_texts(run, checkpoint, tmp_path, ending, hint):
    (tmp_path / f"in.{ending}").write_text('{"text": "a film"}\n')
    code, out, err = run("predict", checkpoint, "--input", tmp_path / f"in.{ending}")
    assert (code, out) == (2, "")
    assert f"received 'in.{ending}'" in err
    assert hint in err.split("hint:")[1]


def test_texts_and_a_file_of_them_are_refused(run, checkpoint, tmp_path):
    code, _, err = run("predict", checkpoint, "a film", "--input", tmp_path / "in.txt")
    assert code == 2
    assert "received both" in err


def test_a_target_reaches_the_recipe_and_only_what_is_measured_is_taken(run, fake_compress):
    assert run(*BASE, "--int8", "--target", "cpu")[0] == 0
    assert fake_compress.calls[0][1].target == "cpu"
    fake_compress.calls = []
    code, _, err = run(*BASE, "--int8", "--target", "cpuu")
    assert (code, fake_compress.calls) == (2, [])
    assert "hint: Did you mean 'cpu'?" in err
    code, _, err = run(*BASE, "--int8", "--target", "cuda")  # which has INT8 of its own
    assert (code, fake_compress.calls) == (2, [])
    assert "leave --int8 out" in err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("report", "render", "no.json"), 5),
        (("report", "render", "r.json", "--out", "no/r.html"), 6),
        (("recipe", "init", "no/r.toml"), 6),
    ],
)
def test_a_path_that_is_not_there_is_no_bug_of_ours(run, tmp_path, monkeypatch, arguments, code):
    monkeypatch.chdir(tmp_path)
    example().save(tmp_path / "r.json")
    found, _, err = run(*arguments)
    assert found == code
    assert err.startswith("error: ")
    assert "bug" not in err


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 3)])
def test_the_demo_ends_as_compress_does(run, monkeypatch, tmp_path, passed, code):
    import optkit.compression.demo as module

    monkeypatch.setattr(module, "demo", lambda out, events: example(passed))
    found, out, _ = run("demo", "--out", tmp_path / "new")
    assert found == code
    assert "quantize-static" in out


def test_sigterm_is_heard_once(monkeypatch):
    heard = []
    monkeypatch.setattr(signal, "signal", lambda number, action: heard.append((number, action)))
    with pytest.raises(Interrupted) as raised:
        cli._terminate()
    assert raised.value.exit_code == 143
    assert heard == [(signal.SIGTERM, signal.SIG_IGN)]


@pytest.mark.parametrize(("end", "code"), [(cli._terminate, 143), (cli._interrupt, 130)])
@pytest.mark.parametrize("error", [DataError("no such pattern"), ValueError("no such pattern")])
def test_a_signal_that_a_library_took_for_an_error_of_its_own_ends_the_command(
    run, monkeypatch, tmp_path, end, code, error
):
    import optkit.compression.demo as module

    def demo(out, events):
        with contextlib.suppress(BaseException):
            end()
        raise error

    monkeypatch.setattr(signal, "signal", lambda number, action: None)
    monkeypatch.setattr(module, "demo", demo)
    ended, _, err = run("demo", "--out", tmp_path / "new")
    assert ended == code
    assert "pattern" not in err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("other",), "further models"),
        (("--names", "a"), "--names"),
        (("--out", "o", "--force"), "--out, --force"),
        (("--scenario", "offline"), "--scenario"),
        (("--p99-ms", "5"), "--p99-ms"),
        (("--mlperf",), "--mlperf"),
        (("--split", "validation"), "--split"),
        (("--limit", "9"), "--limit"),
        (("--task", "embeddings", "--metric", "pearson"), "--task, --metric"),
        (("--trust-remote-code",), "--trust-remote-code"),
    ],
)
def test_self_check_refuses_what_it_would_ignore(run, flags, named):
    code, _, err = run("bench", "model", "--self-check", *flags)
    assert code == 2
    assert f"received {named}." in " ".join(err.split())
    assert "Leave them out" in err


def test_distill_hands_its_columns_on(run, checkpoint, monkeypatch, tmp_path):
    told = {}

    class Child:
        def __init__(self, *given, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *reason):
            return False

        def call(self, name, **arguments):
            told.update(arguments)
            raise DataError("enough")

    monkeypatch.setattr("optkit.compression.distill.Child", Child)
    columns = ("--text-column", "review", "--pair-column", "other", "--label-column", "stars")
    run("distill", checkpoint, "--teacher", checkpoint, "--data", "d", "--out", tmp_path / "o", *columns)
    assert told["columns"] == {"text": "review", "pair": "other", "label": "stars"}
