"""Stored answers: of every task, asked again on another machine, and what follows where they differ."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import optkit
from optkit.benchmarking import stored_answers
from optkit.benchmarking.stored_answers import Writer, ask, inputs_for, read, store
from optkit.cli import app
from optkit.core.artifact import MANIFEST, Artifact
from optkit.core.files import sha256
from optkit.core.schema.stored_answers import FILE
from optkit.errors import CheckpointError
from optkit.tasks.base import open_task
from tests.serving.artifacts import INPUTS, TASKS, artifact

OTHER = "Another CPU"
NO = {"shape": [2], "values": [1.0, 2.0]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("stored")
    made = {task: artifact(home / task, task) for task in TASKS}
    for folder in made.values():
        Writer().write(str(folder), {})
    return made


@pytest.fixture
def folder(folders, tmp_path):
    return Path(shutil.copytree(folders["text-classification"], tmp_path / "model"))


def rewrite(folder, change):
    """`change` the stored answers, and the sha256 that the manifest has of them, as a stranger would."""
    value = json.loads((folder / FILE).read_text())
    change(value)
    (folder / FILE).write_text(json.dumps(value))
    edit(folder, lambda manifest: manifest["files"].update({FILE: sha256(folder / FILE)}))


def edit(folder, change):
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def elsewhere(value):
    value["machine"]["device"] = OTHER


def wrong(value):
    output = next(iter(value["examples"][1]["outputs"].values()))
    output["values"][0] += 2 * max(map(abs, output["values"]))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_stores_three_answers_and_gives_them_again(folders, task):
    made = Artifact.open(folders[task])
    made.verify()
    stored, now = ask(made)
    assert len(stored.examples) == 3
    assert now.worst < 1e-5
    assert (folders[task] / FILE).stat().st_size < 100_000
    assert stored.machine == now.machine


@pytest.mark.parametrize("task", TASKS)
def test_on_another_machine_the_answers_are_asked_before_it_serves(folders, task, tmp_path, monkeypatch):
    asked = []
    compare = stored_answers.compare
    monkeypatch.setattr(stored_answers, "compare", lambda *args: asked.append(1) or compare(*args))
    with optkit.load(folders[task]) as predictor:
        predictor.predict(INPUTS[task][:1])
    assert not asked  # proven here
    monkeypatch.setattr(stored_answers, "describe", lambda: {"cpu": OTHER, "isa": ["avx2"]})
    with optkit.load(folders[task]) as predictor:
        predictor.predict(INPUTS[task][:1])
    assert asked


def test_inputs_are_short_and_long_and_shorter_for_a_large_model(folders):
    task = open_task(Artifact.open(folders["text-classification"]))
    lengths = task.encode(inputs_for(task, 10**6)).lengths
    assert lengths[0] < lengths[1] < lengths[2] == task.encoder.max_length
    assert task.encode(inputs_for(task, 10**10)).lengths.max() <= stored_answers.SHORTEST


def test_other_answers_are_refused_elsewhere_and_by_the_check_here(folder):
    rewrite(folder, wrong)
    optkit.load(folder).close()  # proven here, and sha256 says that it is as it was
    with pytest.raises(CheckpointError, match="does not answer here as it did") as error:
        ask(Artifact.open(folder))
    assert "optkit compress on this machine" in error.value.hint
    rewrite(folder, elsewhere)
    with pytest.raises(CheckpointError, match=f"There: {OTHER}, onnxruntime"):
        optkit.load(folder)


def test_a_server_does_not_start_where_answers_differ(folder):
    from optkit.serving.http.model_slot import open_predictor
    from optkit.serving.http.settings import ServeSettings

    settings = ServeSettings({"m": str(folder)})
    rewrite(folder, elsewhere)
    open_predictor(folder, settings).close()
    rewrite(folder, wrong)
    with pytest.raises(CheckpointError, match="does not answer here as it did"):
        open_predictor(folder, settings)


def test_a_language_model_is_asked_with_its_cache_too(folders):
    stored = read(Artifact.open(folders["causal-lm"]))
    assert all(set(x.outputs) == {"log_likelihood", "next_token"} for x in stored.examples)
    assert stored.examples[0].outputs["next_token"].shape == [40]


def test_a_model_of_images_of_one_size_stores_some_of_that(folders, tmp_path):
    folder = Path(shutil.copytree(folders["image-classification"], tmp_path / "model"))
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "do_resize": False}))
    edit(folder, lambda m: m["files"].update({(n := "preprocessor_config.json"): sha256(folder / n)}))
    Writer().write(str(folder), {})
    assert ask(Artifact.open(folder))[1].equal


def test_a_damaged_file_is_refused(folder):
    value = (folder / FILE).read_text()
    (folder / FILE).write_text(value.replace(":", ": ", 1))
    with pytest.raises(CheckpointError, match="sha256 differs"):
        optkit.load(folder)


def test_without_stored_answers_it_loads_and_the_check_says_what_to_do(folder):
    (folder / FILE).unlink()
    edit(folder, lambda manifest: manifest["files"].pop(FILE))
    optkit.load(folder).close()
    assert read(Artifact.open(folder)) is None
    with pytest.raises(CheckpointError, match="has no stored answers") as error:
        ask(Artifact.open(folder))
    assert "make the artifact again" in error.value.hint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v.update(examples=[]), "at least 1 item"),
        (lambda v: v.update(examples=v["examples"] * 2), "at most 4 items"),
        (lambda v: v.update(schema="optkit.answers/9"), "optkit.answers/1"),
        (lambda v: v["examples"][0].update(input={"b64": 3}), "valid string"),
        (lambda v: v["examples"][0].update(input=["a", "b", "c"]), "does not fit the model"),
        (lambda v: v["examples"][0].update(input="x" * 40_000), "at most 32768"),
        (lambda v: v["examples"][0].update(input=["é" * 30_000] * 9), "at most 262,144 bytes"),
        (lambda v: v["examples"][0]["outputs"].clear(), "at least 1 item"),
        (lambda v: v["examples"][0]["outputs"].update(more={"shape": [1], "values": [1.0]}), "same outputs"),
        (lambda v: v["examples"][0]["outputs"]["logits"].update(shape=[2**60]), "less than"),
        (lambda v: v["examples"][0]["outputs"]["logits"].update(shape=[9]), r"shape \[9\].*received \[2\]"),
        (lambda v: v["examples"][0]["outputs"]["logits"].update(values=[0.0] * 513), "at most 512"),
        (lambda v: v["examples"][0]["outputs"]["logits"].update(values=[0.0]), "Expected logits of shape"),
        (lambda v: v["examples"][0]["outputs"]["logits"].update(values=["0", "1"]), "valid number"),
        (lambda v: [x.update(outputs={"no": NO}) for x in v["examples"]], "no such output"),
        (lambda v: v["machine"].update(isa=["avx2\nx"]), "pattern"),
        (lambda v: v["machine"].update(device="a\x1b[31mb"), "control characters"),
    ],
)  # fmt: skip
def test_a_stranger_s_answers_are_bounded_and_fit_the_model(folder, change, said):
    """On another machine, where they would be asked."""
    rewrite(folder, lambda value: (elsewhere(value), change(value)))
    with pytest.raises(CheckpointError, match=said):
        optkit.load(folder)


def test_answers_that_cost_much_are_refused(folders, tmp_path):
    """A question about a long text becomes many windows, which none of the file's own bounds sees."""
    folder = Path(shutil.copytree(folders["question-answering"], tmp_path / "model"))
    rewrite(folder, lambda v: (elsewhere(v), v["examples"][0].update(input=["who?", "good " * 6_000])))
    with pytest.raises(CheckpointError, match="at most 4096 tokens together"):
        optkit.load(folder)


def test_lower_precision_that_differs_falls_back_to_f32(folder, monkeypatch, caplog):
    """OpenVINO in bf16 stands for a CPU whose bf16 products are wrong; f32 gives what was stored."""
    pytest.importorskip("openvino")
    edit(folder, lambda m: m.update(runtime={"name": "openvino", "options": {"precision": "bf16"}}))
    store(folder)  # OpenVINO in a process of its own
    rewrite(folder, elsewhere)
    compare, seen = stored_answers.compare, []

    def corrupt(session, made, task, stored, machine):
        checked = compare(session, made, task, stored, machine)
        seen.append(machine.precision)
        differences = (0.9,) if machine.precision == "bf16" else checked.differences
        return stored_answers.Check(machine, differences, checked.allowed)

    monkeypatch.setattr(stored_answers, "compare", corrupt)
    with caplog.at_level(logging.WARNING, "optkit"), optkit.load(folder) as predictor:
        answer = predictor.predict(["a fine film"])[0]
    assert seen == ["bf16", "f32"]
    assert "computes in f32 on this machine" in caplog.text
    assert "in bf16 its answers differ by 90%" in caplog.text
    with optkit.load(folder, precision="f32") as predictor:
        assert predictor.predict(["a fine film"])[0] == answer


def test_info_check_prints_how_much(run, folder):
    code, said, _ = run("info", folder, "--check")
    assert code == 0
    assert re.search(r"check: equal; the 3 stored answers differ by (\d\.\de-0[67](, )?){3}", said)
    rewrite(folder, wrong)
    code, _, said = run("info", folder, "--check")
    assert code == 4
    assert "does not answer here as it did where it was proven" in said
    assert run("info", folder)[0] == 0  # not asked


def test_torch_is_not_loaded_for_a_check(folder):
    rewrite(folder, elsewhere)
    code = f"import sys, optkit; optkit.load({str(folder)!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_help_says_what_check_does():
    from typer.testing import CliRunner

    said = CliRunner().invoke(app, ["info", "--help"]).output
    assert "--check" in said
