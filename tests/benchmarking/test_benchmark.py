from __future__ import annotations

import math
import shutil

import pytest

from optkit.benchmarking import benchmark as benchmarking
from optkit.benchmarking.benchmark import benchmark
from optkit.benchmarking.opened_models import open_model, reads_text, synthetic
from optkit.benchmarking.run_scenarios import Scenarios, _of_samples
from optkit.benchmarking.scenarios import SCENARIOS, SHAPES
from optkit.benchmarking.self_check import self_check, share_interval
from optkit.benchmarking.timed_process import Measured
from optkit.cli.terminal import result_table
from optkit.core.artifact import MANIFEST, Artifact, listing
from optkit.core.files import read_json, write_json
from optkit.core.output import check_free
from optkit.data.dataset import Data
from optkit.errors import CheckpointError, DataError, OutputError, RecipeError, WorkerError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.report.model import Report, render
from optkit.runtimes.fake import FakeSession
from optkit.tasks.base import open_task
from tests.benchmarking.fakes import Pool
from tests.conftest import write_jsonl

pytestmark = pytest.mark.usefixtures("fake_runtime")

QUICK = {"rounds": 2, "processes": 1, "budget_ms_per_round": 5, "threads": 1, "timeout_s": 30}


@pytest.fixture(scope="module")
def exported(checkpoint, data, tmp_path_factory):
    """The tiny checkpoint as an fp32 graph."""
    source, folder = fetch(checkpoint), tmp_path_factory.mktemp("exported") / "tiny-onnx"
    context = make_context(open_task(source), Data(str(data)))
    return apply(make("export-onnx", {}), source, folder, context).path


@pytest.fixture
def fake(checkpoint, tmp_path):
    """fake(name, **options) → the checkpoint as a model that the fake runtime serves."""

    def build(name, **options):
        folder = shutil.copytree(checkpoint, tmp_path / name)
        manifest = {**Artifact.open(checkpoint).manifest, "task": "text-classification"}
        manifest |= {"runtime": {"name": "fake", "options": options}, "files": listing(folder)}
        write_json(folder / MANIFEST, manifest)
        return str(folder)

    return build


@pytest.fixture(scope="module")
def report(checkpoint, exported, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "out"
    found = benchmark(
        [str(checkpoint), str(exported), f"{exported / 'model.onnx'}"],
        data=data,
        shapes=["1xdata", "1xtext", "2x4"],
        scenarios=Scenarios(("single-stream", "multi-stream", "offline")),
        plan=QUICK,
        out=out,
        command="optkit bench",
    )
    return found, out


def test_each_model_has_a_row_with_its_score_and_times(report, checkpoint):
    found, _ = report
    assert [row.name for row in found.rows] == [checkpoint.name, "tiny-onnx", "tiny-onnx-2"]
    assert [row.verdict for row in found.rows] == ["baseline", "measured", "measured"]
    assert [row.runtime for row in found.rows] == ["torch", "onnxruntime", "onnxruntime"]
    assert all(row.agreement == 1.0 and row.score == found.rows[0].score for row in found.rows)
    for row in found.rows:
        assert [(x.batch, x.tokens) for x in row.latency[:3]] == [(1, "data"), (1, "text"), (2, 4)]
        assert row.at(1, "text").p50_ms > row.at(1, "data").p50_ms / 2
        assert row.load_rss_bytes <= row.peak_rss_bytes
        assert row.load_ms > 0 < row.cold_ms
    assert found.rows[0].speedup is None
    assert found.rows[1].speedup.low <= found.rows[1].speedup.value <= found.rows[1].speedup.high


def test_scenarios_are_in_the_report_and_in_every_rendering(report):
    found, _ = report
    for row in found.rows:
        assert [x.scenario for x in row.scenarios] == ["single-stream", "multi-stream", "offline"]
        assert all(x.value > 0 and not x.valid for x in row.scenarios)
        offline = row.scenarios[2]
        assert offline.queries == 40 * 2
        assert offline.value == pytest.approx(offline.queries / offline.seconds, rel=0.2)
    assert "single-stream" in render(found, "markdown")
    assert "single-stream" in render(found, "html")


@pytest.mark.parametrize(("examples", "answered"), [(40, 40), (1000, 1000), (5000, 1000)])
def test_offline_says_what_stands_for_a_large_split(examples, answered):
    measured = Measured("x", samples={SHAPES["offline"]: [[[1000.0]]]}, offline_batch=8)
    found = _of_samples("offline", measured, False, examples)
    assert (found.queries, found.value) == (answered, answered)
    assert ("1,000 of 5,000 examples" in found.notes) is (examples > answered)


def test_the_reports_are_written_and_load_again(report):
    found, out = report
    check_free(out, force=True)
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "report.json", "report.md"]
    again = Report.load(out / "report.json")
    assert again.rows[1].scenarios == found.rows[1].scenarios
    assert again.environment.measured_with["processes"] == 1


def test_without_data_times_are_measured_and_scores_are_not(exported):
    found = benchmark([str(exported)], shapes=["1x4", "2x8"], plan=QUICK)
    assert [row.name for row in found.rows] == ["tiny-onnx"]
    assert all(math.isnan(row.score) and not row.fidelity for row in found.rows)
    assert all(len(row.latency) == 2 for row in found.rows)
    assert any("random" in doubt for doubt in found.doubts)
    assert "Answers were not compared: a single model was given" in found.doubts
    assert "random inputs" in render(found, "markdown")
    assert found.fidelity == ""


def test_without_data_answers_are_compared_with_the_first_models(checkpoint, exported, tmp_path):
    models, plan = [str(checkpoint), str(exported)], {**QUICK, "timeout_s": 300}
    found = benchmark(models, shapes=["1x4"], plan=plan, limit=20)
    assert [row.reasons for row in found.rows] == [[], []]
    assert found.fidelity.endswith(f"with those of {checkpoint.name} on built-in texts")
    assert (found.metric, found.data["examples"]) == ("", 20)
    assert [row.agreement for row in found.rows] == [1, 1]
    assert found.rows[1].fidelity["texts"] == 20
    assert found.rows[0].notes["reference"]["by"] == "transformers"
    for format in ("json", "html", "markdown", "junit", "csv"):
        text = render(found, format).lower()
        first = text.split("\n") if format == "html" else [text.split("\n")[0]]
        assert any("fidelity" in line and "accuracy" in line for line in first), format
    (tmp_path / "own.csv").write_text("sentence\n" + "".join(f"a film {i}\n" for i in range(9)))
    own = benchmark(models, unlabelled=tmp_path / "own.csv", shapes=["1xdata"], plan=plan)
    assert own.data["name"] == str(tmp_path / "own.csv")
    assert own.rows[1].fidelity["texts"] == own.data["examples"] == 6


def test_models_whose_answers_cannot_be_compared_are_timed_all_the_same(exported, make_checkpoint):
    other = make_checkpoint("bert", labels=("bad", "good"))
    found = benchmark([str(exported), str(other)], shapes=["1x4"], plan=QUICK)
    assert any(d.startswith("Answers were not compared: Expected models of one task") for d in found.doubts)
    assert [len(row.latency) for row in found.rows] == [1, 1]
    assert found.fidelity == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"data": "d", "unlabelled": "u"}, "received both"),
        ({"metric": "f1"}, "data with labels for the metric f1"),
        ({"unlabelled": "u"}, "two models or more"),
    ],
)
def test_what_makes_no_sense_without_labels_is_refused(arguments, said):
    with pytest.raises(RecipeError, match=said):
        benchmark(["m"], **arguments)


@pytest.mark.parametrize("with_data", [True, False])
def test_what_crashes_hangs_or_needs_too_much_has_a_row_that_says_so(fake, data, with_data):
    models = [fake("fine", delay_ms=1), *(fake(flaw, flaw=flaw) for flaw in ("crash", "hang", "memory"))]
    found = benchmark(
        [*models, fake("good", delay_ms=2)],
        data=data if with_data else None,
        shapes=["1x4"],
        plan={**QUICK, "timeout_s": 6},
    )
    assert [row.verdict for row in found.rows] == ["baseline", "error", "error", "error", "measured"]
    crash, hang, memory = (row.reasons[0] for row in found.rows[1:4])
    assert "ended with code -9" in crash
    assert "the machine ran out of memory" in crash
    assert "did not answer" in hang
    assert "Out of memory" in memory
    assert found.rows[4].speedup is not None


def test_a_model_whose_answers_are_no_numbers_has_a_row_that_says_so(fake, data):
    found = benchmark(
        [fake("fine", delay_ms=1), fake("nan", flaw="nan")], data=data, shapes=["1x4"], plan=QUICK
    )
    assert [row.verdict for row in found.rows] == ["baseline", "error"]
    assert "received NaN" in found.rows[1].reasons[0]


def test_when_nothing_can_be_measured_the_command_fails(fake):
    with pytest.raises(WorkerError, match="No model could be measured.*ended with code -9"):
        benchmark([fake("crash", flaw="crash")], shapes=["1x4"], plan=QUICK)


def test_a_first_model_that_fails_while_timed_leaves_the_others_times_without_ratios(fake, monkeypatch):
    # Random inputs, which nobody answers before the clock runs, as for models that cannot be compared.
    monkeypatch.setattr(
        benchmarking, "_unlabelled", lambda models, *rest: benchmarking._random(models, rest[-1])
    )
    found = benchmark(
        [fake("crash", flaw="crash"), fake("a", delay_ms=1), fake("b", delay_ms=1)],
        shapes=["1x4"],
        plan=QUICK,
    )
    assert [row.verdict for row in found.rows] == ["error", "measured", "measured"]
    assert all(row.speedup is None and row.latency[0].speedup is None for row in found.rows[1:])
    assert any("crash failed while timed" in doubt for doubt in found.doubts)
    assert "1×4" in [column.header.plain.partition("\n")[0] for column in result_table(found, 300).columns]


def test_where_the_first_model_cannot_answer_the_next_is_the_first_row(fake, data):
    found = benchmark(
        [fake("crash", flaw="crash"), fake("a", delay_ms=1), fake("b", delay_ms=1)],
        data=data,
        shapes=["1x4"],
        plan=QUICK,
    )
    assert [(r.name, r.verdict) for r in found.rows] == [
        ("a", "baseline"),
        ("crash", "error"),
        ("b", "measured"),
    ]
    assert found.rows[2].speedup is not None
    assert "crash failed, so all models are compared to a." in found.doubts


def test_the_server_scenario_finds_a_rate(fake, data, monkeypatch):
    monkeypatch.setattr("optkit.benchmarking.run_scenarios.SHORT_TRIAL", 0.3)
    found = benchmark(
        [fake("fine", delay_ms=4), fake("crash", flaw="crash")],
        data=data,
        scenarios=Scenarios(("server",), p99_ms=60),
        plan=QUICK,
    )
    (server,) = found.rows[0].scenarios
    assert server.metric == "queries per second at p99 of at most 60 ms"
    assert 50 < server.value < 8 * 1000 / 4  # eight at once, 4 ms each time
    assert not found.rows[1].scenarios


def test_a_bound_that_nothing_holds_is_said(fake, data, monkeypatch):
    monkeypatch.setattr(
        "optkit.benchmarking.run_scenarios.rules.trial_seconds", lambda rate, seconds, full: 0.2
    )
    found = benchmark(
        [fake("slow", delay_ms=5)], data=data, scenarios=Scenarios(("server",), p99_ms=0.5), plan=QUICK
    )
    (server,) = found.rows[0].scenarios
    assert server.value is None
    assert "held the bound" in server.notes


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"models": ["nowhere"]}, CheckpointError, "does not exist"),
        ({"models": ["none.onnx"]}, CheckpointError, "does not exist"),
        ({"models": ["{ckpt}@onnxruntime"]}, RecipeError, "onnxruntime does not run hf models"),
        ({"models": ["{ckpt}@tensrt"]}, RecipeError, "Unknown runtime"),
        ({"models": ["{ckpt}"], "shapes": ["1xdata"]}, RecipeError, "need data"),
        ({"models": ["{ckpt}"], "scenarios": Scenarios(("offline",))}, RecipeError, "need data"),
        ({"models": ["{ckpt}"], "names": ["a", "b"]}, RecipeError, "1 different names"),
        ({"models": ["{ckpt}"], "data": "{empty}"}, DataError, "empty"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(arguments, error, match, checkpoint, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    places = {"ckpt": str(checkpoint), "empty": str(tmp_path / "empty.jsonl")}
    models = [m.format(**places) for m in arguments["models"]]
    if "data" in arguments:
        arguments = {**arguments, "data": arguments["data"].format(**places)}
    with pytest.raises(error, match=match):
        benchmark(**{**arguments, "models": models}, out=tmp_path / "out", plan=QUICK)
    assert not (tmp_path / "out").exists()


def test_models_with_other_labels_are_refused(checkpoint, make_checkpoint, data):
    other = make_checkpoint("bert", labels=("positive", "negative"))
    write_other_tokenizer(other)
    with pytest.raises(RecipeError, match="same labels"):
        benchmark([str(checkpoint), str(other)], data=data, plan=QUICK)


def write_other_tokenizer(folder):
    """The same words in a file that differs."""
    import json

    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1) + "\n\n")


def test_an_output_folder_that_exists_is_kept(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    with pytest.raises(OutputError, match="exists"):
        benchmark([str(checkpoint)], out=tmp_path / "out", plan=QUICK)
    assert (tmp_path / "out" / "precious").exists()


@pytest.mark.parametrize("scenario", ["offlin", "Server", ""])
def test_unknown_scenarios_are_refused(scenario):
    with pytest.raises(RecipeError, match="Unknown scenario"):
        Scenarios((scenario,))


def test_the_rules_need_a_scenario():
    with pytest.raises(RecipeError, match="Expected a scenario"):
        Scenarios(full=True)
    assert Scenarios(SCENARIOS, full=True).full


def test_a_bare_graph_becomes_an_artifact_of_its_own(exported, tmp_path):
    shutil.copyfile(exported / "model.onnx", tmp_path / "alone.onnx")
    found = open_model(str(tmp_path / "alone.onnx"), tmp_path)
    assert (found.name, found.runtime, reads_text(found)) == ("alone", "onnxruntime", False)
    assert Artifact.open(found.artifact).precision == "fp32"
    ids = synthetic([found]).arrays["input_ids"]
    vocabulary = read_json(exported / "config.json", CheckpointError)["vocab_size"]
    assert max(int(x.max()) for x in ids) < vocabulary


@pytest.mark.parametrize("content", [b"", b"no protobuf at all \xff\xfe"])
def test_a_file_that_is_no_graph_is_refused(tmp_path, content):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(CheckpointError, match="not an ONNX model|random inputs"):
        synthetic([open_model(str(tmp_path / "bad.onnx"), tmp_path)])


class Steady(Pool):
    """Fake workers whose every answer takes 3 ms."""

    def __call__(self, threads):
        child = super().__call__(threads)
        child._open = child.worker._open = lambda artifact, runtime, **options: FakeSession(
            clock=self.clock, delay_ms=3.0
        )
        return child


def test_self_check_claims_nothing_of_equals_and_finds_a_large_slowdown(fake):
    # Workers on a clock turned by hand: no load on the machine can decide this.
    found = self_check(fake("even"), slowdown=1.0, comparisons=2, shape="1x4", plan=QUICK, spawn=Steady())
    assert (found.comparisons, found.false_claims, found.found) == (2, 0, 2)
    assert found.injected == pytest.approx(1.0, rel=0.01)
    assert "found in 2 of 2" in found.sentence()


def test_self_check_goes_on_where_it_stopped(fake):
    model, kept = fake("even", delay_ms=1), []
    settings = {"shape": "1x4", "plan": QUICK, "keep": kept.append}
    first = self_check(model, comparisons=1, **settings)
    both = self_check(model, comparisons=2, done=first.compared, **settings)
    assert [len(found.compared) for found in kept] == [1, 2]
    assert both.compared[0] is first.compared[0]
    assert [x.seed for x in both.compared] == [0, 1]


def test_self_check_of_a_model_that_fails_says_so(fake):
    with pytest.raises(WorkerError, match="could not be measured"):
        self_check(fake("crash", flaw="crash"), comparisons=1, shape="1x4", plan=QUICK)


@pytest.mark.parametrize(("count", "n"), [(0, 40), (1, 40), (20, 40), (40, 40), (1, 1)])
def test_the_interval_of_a_share_is_wilsons(count, n):
    from scipy.stats import binomtest

    expected = binomtest(count, n).proportion_ci(method="wilson")
    assert share_interval(count, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_command_prints_a_table_and_scenarios(run, exported, data):
    code, out, err = run(
        *("bench", exported, f"{exported}@fake", "--data", data, "--shapes", "1xdata"),
        *("--scenario", "offline", "--rounds", "1", "--processes", "1"),
    )
    assert code == 0, err
    assert "tiny-onnx@fake" in out
    assert "offline: tiny-onnx: " in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--cores 9999", "Expected cores"),
        ("--cores a", "Expected cores"),
        ("--self-check --slowdown x", "Expected --slowdown"),
        ("--scenario nothing", "Unknown scenario"),
        ("--shapes 1x", "Expected a shape"),
    ],
)
def test_wrong_flags_exit_with_two(run, exported, flags, message):
    code, _, err = run("bench", exported, *flags.split())
    assert (code, message in err) == (2, True), err


def test_data_without_examples_is_refused(exported, tmp_path):
    write_jsonl(tmp_path / "validation.jsonl", [])
    with pytest.raises(DataError, match="empty"):
        benchmark([str(exported)], data=tmp_path, plan=QUICK)
