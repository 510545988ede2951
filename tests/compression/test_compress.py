"""The loop, end to end on a tiny model: what it writes, that it resumes, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import optkit
from optkit.benchmarking.gate import Gate
from optkit.benchmarking.stored_answers import ask
from optkit.compression.compress import compress
from optkit.compression.recipe import Recipe
from optkit.compression.runtime_search import RuntimeSettings
from optkit.core.artifact import Artifact
from optkit.core.output import check_free
from optkit.errors import OutputError
from optkit.events import Note, Progress, Step
from optkit.passes.base import make
from optkit.passes.graph import load_graph
from optkit.report.model import Report, render
from tests.forks import Fork

QUICK = {"shapes": ("1xdata", "2x16"), "rounds": 2, "processes": 1, "threads": 1}
LENIENT = Gate(max_drop=0.5, relative=False)


@pytest.fixture(scope="module")
def finished(checkpoint, data, tmp_path_factory):
    """One whole run, interrupted before its last pass and then resumed."""
    out = tmp_path_factory.mktemp("models") / "tiny"

    def stop_at_static(event):
        if isinstance(event, Step) and event.name == "quantize-static":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(
            checkpoint,
            Recipe.int8(LENIENT, "onnxruntime"),
            data=data,
            out=out,
            events=stop_at_static,
            **QUICK,
        )
    left = sorted(p.name for p in out.parent.iterdir())
    events = []
    report = compress(
        checkpoint, Recipe.int8(LENIENT, "onnxruntime"), data=data, out=out, events=events.append, **QUICK
    )
    return out, report, left, events


def test_force_replaces_its_own_output_and_nothing_that_it_reads(finished, checkpoint, data):
    check_free(finished[0], force=True)
    for source, out in ((checkpoint, checkpoint), (finished[0], finished[0]), (checkpoint, data)):
        with pytest.raises(OutputError, match=r"--force would delete .*, which this command reads"):
            compress(source, Recipe.int8(), data=data, out=out, force=True)


def test_an_interruption_leaves_nothing_under_the_final_name(finished):
    assert finished[2] == [".tiny.work"]


def test_the_same_command_resumes_after_the_last_finished_pass(finished):
    notes = [e.text for e in finished[3] if isinstance(e, Note)]
    for name in ("torch-fp32", "onnxruntime-fp32", "quantize-dynamic"):
        assert any(name in note and "not scored again" in note for note in notes)
    assert sum("not run again" in note for note in notes) == 2


def test_the_work_folder_goes_in_the_end(finished):
    assert [p.name for p in finished[0].parent.iterdir()] == ["tiny"]


def test_rows_are_the_baselines_then_one_per_pass(finished):
    report = finished[1]
    names = ["torch-fp32", "onnxruntime-fp32", "quantize-dynamic", "quantize-static"]
    assert [r.name for r in report.rows] == names
    assert [r.verdict for r in report.rows[:2]] == ["baseline", "baseline"]
    assert report.chosen in names[2:]


def test_the_report_holds_what_the_issue_asks_for(finished):
    out, report, *_ = finished
    text = (out / "report.json").read_text()
    stored = json.loads(text)
    assert render(Report.from_dict(stored), "json") == text
    assert {"schema", "task", "metric", "data", "target", "environment", "rows", "chosen"} <= set(stored)
    assert stored["data"]["examples"] == 40
    assert stored["environment"]["measured_with"]["threads"] == stored["environment"]["threads"]
    assert len(stored["data"]["sha256"]) == 64
    for row in stored["rows"]:
        assert row["size_bytes"] > 0
        assert row["peak_rss_bytes"] > 1e6
        assert 0 <= row["agreement"] <= 1
        assert [(x["batch"], x["tokens"]) for x in row["latency"]] == [(1, "data"), (2, 16)]
        assert all(x["p50_ms"] <= x["p90_ms"] <= x["p99_ms"] and x["samples_ms"] for x in row["latency"])
    for row in stored["rows"][1:]:
        assert row["speedup"]["low"] <= row["speedup"]["value"] <= row["speedup"]["high"]
    for name in ("report.md", "report.html"):
        assert report.chosen in (out / name).read_text()


def test_both_int8_models_were_probed(finished):
    report = finished[1]
    for row in report.rows[2:]:
        assert row.probes["int8"]["int8_multiplies"] >= 9
        assert 0 < row.probes["int8"]["time_share"] < 1
    assert report.row("quantize-static").probes["neighbours"]["invariant"]
    assert report.row("quantize-dynamic").probes["neighbours"]["batched"] > 0
    assert report.row("onnxruntime-fp32").probes == {}
    assert "matrix multiplies ran in INT8" in (finished[0] / "report.md").read_text()


def test_a_multiply_without_an_int8_kernel_is_a_doubt(finished):
    """The probe's count is replaced: here every multiply has a kernel."""
    from types import SimpleNamespace

    from optkit.compression.conclusion import _doubts

    report = finished[1]
    row = replace(report.row("quantize-static"), probes={"int8": {"int8_multiplies": 7}})
    evaluator = SimpleNamespace(
        labelled=SimpleNamespace(references=[0], empty=0, skipped=0, encoded=SimpleNamespace(truncated=0))
    )
    job = SimpleNamespace(
        evaluator=evaluator,
        examples=1,
        data=SimpleNamespace(is_held_out=lambda split: False),
        split="validation",
        source=SimpleNamespace(lineage=()),
    )
    wanted = row.notes["quantized_matmuls"]
    assert any(
        f"{wanted - 7} of {wanted} quantized multiplies ran in float" in x
        for x in _doubts(job, LENIENT, [report.rows[0], row])
    )
    assert not any("no INT8 kernel" in x for x in report.doubts)


def test_the_report_says_how_much_is_padding(finished):
    report = finished[1]
    shares = report.data["padding"]
    assert 0 <= shares["by_length"] < shares["as_it_comes"] < 1
    assert report.rows[0].at(1, "data").padding == 0.0
    assert report.rows[0].at(2, 16).padding is None


def test_the_fastest_at_each_shape_is_named(finished):
    report = finished[1]
    assert [x.shape for x in report.winners] == ["1xdata", "2x16"]
    # By chance INT8 of a tiny model is slower than fp32, and does not pass.
    passed = [r for r in report.rows[2:] if r.verdict == "passed"] or report.rows[2:]
    for x in report.winners:
        best = min(r.at(*((1, "data") if x.shape == "1xdata" else (2, 16))).p50_ms for r in passed)
        assert x.p50_ms == pytest.approx(best, abs=1e-3)
        assert f"{x.shape}: {x.row}".replace("-", "-") in (finished[0] / "report.html").read_text()


def test_openvino_alone_goes_the_whole_way(checkpoint, data, tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    gate = Gate(max_drop=0.9, relative=False, batch_invariant=True)
    trial = {"setting": "hint", "value": "THROUGHPUT", "speed": 1.2, "sure": True}
    found = RuntimeSettings({"hint": "THROUGHPUT"}, [trial])
    monkeypatch.setattr("optkit.compression.conclusion.has_vnni", lambda: False)
    monkeypatch.setattr("optkit.compression.compress.search", lambda candidate, encoded, plan, bucket: found)
    recipe = Recipe.int8(gate, "openvino")
    report = compress(checkpoint, recipe, data=data, out=tmp_path / "ov", tune_runtime=True, **QUICK)
    row = report.row("open-vino-int8")
    assert report.chosen == row.name
    assert row.runtime == "openvino"
    assert row.probes["int8"]["provider"] == "OpenVINO CPU"
    assert row.probes["int8"]["int8_multiplies"] >= 9
    assert row.probes["neighbours"]["invariant"]
    manifest = json.loads((tmp_path / "ov" / "optkit.json").read_text())
    assert manifest["runtime"]["name"] == "openvino"
    assert manifest["runtime"]["options"]["hint"] == "THROUGHPUT"  # what `optkit.load` opens it with
    assert manifest["runtime"]["options"]["precision"] in ("f32", "bf16")
    assert not any("no INT8 kernel" in doubt for doubt in report.doubts)
    assert any("no VNNI" in doubt and "reduce_range" in doubt for doubt in report.doubts)
    assert "runtime settings: hint = THROUGHPUT is 1.20 times as fast" in report.trace
    with optkit.load(tmp_path / "ov") as model:
        assert model.predict(["a fine film"])[0].label in ("negative", "positive")


def good(report):
    """The INT8 rows that kept the score."""
    return [r for r in report.rows if r.score == 1.0 and r.precision == "int8"]


def test_a_missed_score_sends_the_most_sensitive_back_to_float(checkpoint, data, tmp_path, monkeypatch):
    """Scores are replaced: INT8 keeps the score only with the three most sensitive multiplies in float."""
    from optkit.benchmarking.evaluation import Evaluator

    whole, ranked = Evaluator.answer, []

    def answer(self, candidate, file, baseline):
        made = whole(self, candidate, file, baseline)
        steps = (
            json.loads((Path(candidate.artifact) / "optkit.json").read_text())["lineage"] if baseline else []
        )
        if steps and steps[-1]["pass"] == "quantize-static":
            stored = next(Path(candidate.artifact).parent.glob("sensitivity-*.json"), None)
            top = [name for name, _ in json.loads(stored.read_text())["ranked"]][:3] if stored else ["?"]
            ranked[:] = top
            return replace(made, score=float(set(top) <= set(steps[-1]["parameters"]["exclude"])))
        kept = not steps or steps[-1]["pass"] == "export-onnx"
        return replace(made, score=float(kept))

    def times(artifact, encoded, threads):
        """Every multiply alike: measured ones would order what is as sensitive by chance."""
        nodes = [n.name for n in load_graph(artifact.path).graph.node if n.op_type in ("MatMul", "Gemm")]
        return dict.fromkeys(nodes, 10.0 if artifact.precision == "fp32" else 4.0)

    monkeypatch.setattr(Evaluator, "answer", answer)
    monkeypatch.setattr("optkit.compression.accuracy_aware._kernel_times", times)
    quick = {**QUICK, "shapes": ("1xdata",), "rounds": 1}
    gate = Gate(max_drop=0.01, relative=False)
    report = compress(
        checkpoint,
        Recipe.int8(gate, "onnxruntime"),
        data=data,
        out=tmp_path / "aware",
        keep_steps=True,
        **quick,
    )
    assert len(ranked) == 3
    missed = [line for line in report.trace if "missed" in line]
    assert missed[0].startswith("smooth_quant = 0.85: missed")
    assert any(line.startswith("only the feed-forward blocks in INT8: missed") for line in missed)
    (first,) = (line for line in report.trace if line.startswith("first back to float"))
    assert "INT8 saves" in first
    timed = {r.name for r in report.rows if r.latency}
    assert {r.name for r in good(report)} | {"quantize-static"} <= timed
    assert any(r.name not in timed for r in report.rows), "trials that missed are not timed"
    assert any("harmless quantized again" in line for line in report.trace)
    assert good(report)
    assert report.row("quantize-static").score == 0.0
    kept = [
        set(
            json.loads((Path(r.artifact) / "optkit.json").read_text())["lineage"][-1]["parameters"]["exclude"]
        )
        for r in good(report)
    ]
    assert all(set(ranked) <= names for names in kept)
    assert min(map(len, kept)) <= 4  # three, in a group of the way back
    assert any(report.chosen == r.name for r in good(report))
    assert "Accuracy-aware search" in (tmp_path / "aware" / "report.md").read_text()


def test_the_output_is_an_artifact_that_answers(finished):
    out, report, *_ = finished
    manifest = json.loads((out / "optkit.json").read_text())
    assert [s["pass"] for s in manifest["lineage"]] == ["export-onnx", report.chosen]
    assert {"model.onnx", "tokenizer.json", "config.json", "stored_answers.json"} <= set(manifest["files"])
    assert ask(Artifact.open(out))[1].worst < 1e-5
    assert optkit.load(out).predict(["a fine film"])[0].label in ("negative", "positive")


def test_an_existing_output_is_refused_before_any_work(finished, checkpoint, data):
    with pytest.raises(OutputError, match="exists"):
        compress(checkpoint, Recipe.int8(), data=data, out=finished[0], **QUICK)


def test_an_output_that_cannot_be_written_is_an_output_error(checkpoint, data, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="Could not write"):
        compress(checkpoint, Recipe.int8(), data=data, out=tmp_path / "file" / "out", **QUICK)


def test_no_candidate_passes_exit_3_with_the_report_written(run, checkpoint, data, tmp_path):
    out = tmp_path / "out"
    code, stdout, stderr = run(
        "compress", checkpoint, "--int8", "--data", data, "--out", out, "--min-speedup", "1000",
        "--shapes", "1xdata", "--rounds", "1", "--processes", "1", "--threads", "1", "--quiet",
        "--runtime", "onnxruntime", "--max-drop", "90%",
    )  # fmt: skip
    assert code == 3, stderr
    assert "No candidate passed" in stderr
    report = Report.load(out / "report.json")
    assert report.gate.passed is False
    assert all("its speedup is" in r.reasons[0] for r in report.rows[2:])
    assert optkit.load(out).artifact.manifest["gate"]["passed"] is False
    assert "quantize-static" in stdout


def test_candidates_are_timed_from_text_to_answer(checkpoint, data, tmp_path):
    steps = [make("export-onnx", {}), make("quantize-dynamic", {})]
    asked = {**QUICK, "shapes": ("1xtext",), "rounds": 1}
    report = compress(checkpoint, Recipe.of(steps, LENIENT), data=data, out=tmp_path / "x", **asked)
    assert [row.verdict for row in report.rows if row.verdict == "error"] == []
    assert all(row.at(1, "text") for row in report.rows)
    assert report.chosen_row.speedup is not None


def test_sigterm_in_a_pass_leaves_no_output_and_no_process(checkpoint, data, tmp_path):
    psutil = pytest.importorskip("psutil")
    out = tmp_path / "out"
    words = ["compress", checkpoint, "--int8", "--data", data, "--out", out, "--rounds", "1"]
    running = Fork(
        [sys.executable, "-m", "optkit", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in running.stderr:
        if "onnxruntime-fp32 [" in line:
            break
    begun, process = time.monotonic(), psutil.Process(running.pid)
    while not (workers := [p for p in process.children(recursive=True) if _leads(p.pid)][1:]):
        assert time.monotonic() < begun + 60, "no pass has begun in a child process"
    running.send_signal(signal.SIGTERM)
    _, stderr = running.communicate(timeout=30)
    assert running.returncode == 143, stderr
    assert "resumes" in stderr
    assert not out.exists()
    assert not psutil.wait_procs(workers, timeout=10)[1]


def test_a_pass_that_dies_is_an_error_and_leaves_no_output(checkpoint, data, tmp_path, monkeypatch):
    """What a machine out of memory does: the kernel kills the child."""
    from optkit.errors import WorkerError

    out = tmp_path / "out"

    def kill_the_pass(event):
        if isinstance(event, Progress) and event.text.startswith("tracing"):
            for pid in _children_of(os.getpid()):
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(WorkerError, match="ended with code -9") as raised:
        compress(checkpoint, Recipe.int8(), data=data, out=out, events=kill_the_pass, **QUICK)
    assert "memory" in raised.value.hint
    assert not out.exists()


def test_a_candidate_that_fails_has_an_error_row_and_the_others_finish(
    checkpoint, data, tmp_path, monkeypatch
):
    """The kernel kills the process of the first alternative."""
    running = []

    def kill_dynamic(event):
        if isinstance(event, Step):
            running[:] = [event.name]
        working = isinstance(event, Progress) and event.text.startswith("quantizing")
        if running == ["quantize-dynamic"] and working:
            for pid in _children_of(os.getpid()):
                os.kill(pid, signal.SIGKILL)

    out = tmp_path / "out"
    report = compress(
        checkpoint, Recipe.int8(LENIENT, "onnxruntime"), data=data, out=out, events=kill_dynamic, **QUICK
    )
    failed = report.row("quantize-dynamic")
    assert failed.verdict == "error"
    assert "code -9" in failed.reasons[0]
    assert report.chosen == "quantize-static"
    assert "quantize-dynamic" in (out / "report.html").read_text()


def _children_of(pid: int) -> list[int]:
    """Those with a session of their own, as `optkit.core.process` starts them."""
    if not shutil.which("pgrep"):
        pytest.skip("needs pgrep")
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [p for p in map(int, found.stdout.split()) if _leads(p)]


def _leads(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:  # pgrep itself
        return False


@pytest.mark.parametrize(
    ("labels", "problem", "values"),
    [
        (("value",), "regression", [0.5, 1.5, 2.5, 4.0]),
        (("a", "b", "c"), "multi_label_classification", [["a"], ["b", "c"], [], ["a", "c"]]),
    ],
)
def test_pairs_with_other_heads_go_the_whole_way(make_checkpoint, tmp_path, labels, problem, values):
    from tests.conftest import sentences, write_jsonl

    rows = [
        {"text": r["text"], "text_pair": "good film", "label": values[i % len(values)]}
        for i, r in enumerate(sentences(24))
    ]
    write_jsonl(tmp_path / "data.jsonl", rows * 4)
    folder = make_checkpoint("distilbert", labels, problem_type=problem)
    report = compress(
        folder,
        Recipe((make("export-onnx", {}), make("quantize-static", {})), Gate(None)),
        data=tmp_path / "data.jsonl",
        out=tmp_path / "out",
        **QUICK,
    )
    assert report.metric == {"regression": "spearman"}.get(problem, "f1")
    assert report.data["held_out"]
    assert all(r.drop is not None for r in report.rows[1:])
    answer = optkit.load(tmp_path / "out").predict([("a fine film", "good film")])[0]
    assert set(answer.scores) == set(labels)
