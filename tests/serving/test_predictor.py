from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from optkit import load
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, DataError, OptkitError
from optkit.models.checkpoint import fetch, load_model
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.fake import FakeSession
from optkit.serving.predictor import Predictor
from optkit.tasks.base import open_task
from tests.serving.artifacts import INPUTS, TASKS, artifact

pytestmark = pytest.mark.usefixtures("fake_runtime")


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory) -> Artifact:
    source = fetch(checkpoint)
    final = tmp_path_factory.mktemp("p") / "onnx"
    return apply(make("export-onnx", {}), source, final, make_context(open_task(source)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("tasks")
    return {task: artifact(home / task, task) for task in TASKS}


def same(predictor, answers, others) -> bool:
    """Equal but for rounding, which differs between batches."""
    numbers: list[list[float]] = [[], []]

    def bare(value, found):
        if isinstance(value, dict):
            return {key: bare(x, found) for key, x in value.items()}
        if isinstance(value, list):
            return [bare(x, found) for x in value]
        return found.append(value) if isinstance(value, float) else value

    left, right = (
        [bare(predictor.task.describe(answer), found) for answer in side]
        for side, found in zip((answers, others), numbers)
    )
    return left == right and numbers[0] == pytest.approx(numbers[1], abs=1e-4)


def test_answers_are_transformers_own(checkpoint, model):
    """The very probabilities of the torch model on the same text."""
    import torch

    texts = ["a fine film", "dull", "the plot is thin and the cast is not very good", ""]
    with load(model.path) as predictor:
        answers = predictor.predict(texts, batch_size=2)
        network = load_model(checkpoint)
        for text, answer in zip(texts, answers):
            feeds = predictor.task.encode([text]).batch([0])
            with torch.inference_mode():
                logits = network(**{k: torch.from_numpy(v) for k, v in feeds.items()}).logits[0]
            for label, p in zip(("negative", "positive"), torch.softmax(logits, 0).tolist()):
                assert answer.scores[label] == pytest.approx(p, abs=1e-4)
            assert answer.label == max(answer.scores, key=answer.scores.get)


@pytest.mark.parametrize("task", TASKS)
def test_one_many_and_a_stream_answer_the_same(task, folders):
    inputs = INPUTS[task]
    with load(folders[task]) as predictor:
        many = predictor.predict(inputs)
        assert same(predictor, [predictor.predict_one(item) for item in inputs], many)
        assert same(predictor, predictor.stream(iter(inputs), ahead=2), many)
        assert same(predictor, predictor.predict(inputs, batch_size=2, max_tokens=10), many)
        assert predictor.predict([]) == []


@pytest.mark.parametrize("task", TASKS)
def test_threads_may_share_it(task, folders):
    inputs = INPUTS[task]
    with load(folders[task]) as predictor, ThreadPoolExecutor(8) as threads:
        alone = predictor.predict(inputs)
        calls = [threads.submit(predictor.predict, inputs[i % 5 :] + inputs[: i % 5]) for i in range(40)]
        for i, call in enumerate(calls):
            assert same(predictor, call.result(), alone[i % 5 :] + alone[: i % 5])


def test_entities_and_answers_have_the_offsets_of_characters(folders):
    text = "good 你好 film bad, the cast"
    with load(folders["token-classification"]) as predictor:
        found = predictor.predict_one(text).entities
        assert found
        assert all(text[entity.start : entity.end] == entity.text for entity in found)
    with load(folders["question-answering"]) as predictor:
        answer = predictor.predict_one(("who?", text))
        assert answer.text == text[answer.start : answer.end] != ""
    with load(folders["embeddings"]) as predictor:
        assert predictor.predict_one(text).dtype == np.float32


def test_a_stream_reads_no_more_than_it_needs(folders):
    read = []
    with load(folders["text-classification"]) as predictor:
        answers = predictor.stream((read.append(i) or "good" for i in range(10**9)), ahead=4)
        next(answers)
        assert len(read) == 4


def test_one_string_is_refused_rather_than_split(folders):
    with load(folders["text-classification"]) as predictor:
        with pytest.raises(DataError, match="one string"):
            predictor.predict("a fine film")
        with pytest.raises(DataError, match="one string"):
            next(predictor.stream("a fine film"))


def test_pairs(folders):
    with load(folders["text-classification"]) as predictor:
        assert len(predictor.predict([("a film", "the plot"), ("good", "bad")])) == 2


def test_closing_waits_for_calls_and_refuses_later_ones(folders):
    begun, go_on = threading.Event(), threading.Event()

    class Slow(FakeSession):
        closed = False

        def infer(self, feeds):
            begun.set()
            go_on.wait(10)
            assert not self.closed
            return super().infer(feeds)

        def close(self):
            self.closed = True

    found = Artifact.open(folders["text-classification"])
    predictor = Predictor(found, open_task(found), Slow())
    with ThreadPoolExecutor(2) as threads:
        call = threads.submit(predictor.predict, ["good"])
        begun.wait(10)
        closing = threads.submit(predictor.close)
        while not predictor._closed:
            time.sleep(0.001)
        assert not closing.done()
        go_on.set()
        assert call.result()[0].label in ("negative", "positive")
        closing.result(10)
    predictor.close()
    with pytest.raises(OptkitError, match="closed"):
        predictor.predict(["good"])


def test_a_session_that_bears_one_thread_gets_one(folders):
    inside = []

    class Single(FakeSession):
        thread_safe = False

        def infer(self, feeds):
            inside.append(1)
            assert len(inside) == 1
            time.sleep(0.002)
            inside.pop()
            return super().infer(feeds)

    found = Artifact.open(folders["text-classification"])
    with Predictor(found, open_task(found), Single()) as predictor, ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(predictor.predict, [["good"]] * 20))) == 20


def test_the_manifests_runtime_and_its_settings_are_used(folders, tmp_path):
    copy = shutil.copytree(folders["text-classification"], tmp_path / "copy")
    manifest = json.loads((copy / "optkit.json").read_text())
    manifest["runtime"] = {"name": "fake", "options": {"flaw": "error"}}
    (copy / "optkit.json").write_text(json.dumps(manifest))
    with load(copy) as predictor, pytest.raises(OptkitError, match="asked to fail"):
        predictor.predict(["good"])
    with load(copy, flaw="") as predictor:
        assert predictor.predict(["good"])


def test_a_damaged_file_is_refused(folders, tmp_path):
    copy = shutil.copytree(folders["text-classification"], tmp_path / "copy")
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="sha256"):
        load(copy)


def test_no_torch_is_loaded(folders):
    code = (
        "import sys, optkit\nwith optkit.load(sys.argv[1]) as p: print(p.predict_one('a fine film').label)\n"
        "assert not {'torch', 'transformers', 'datasets', 'onnx', 'sklearn'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(folders["text-classification"])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("negative", "positive")
