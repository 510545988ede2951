"""Every task goes the whole way on a tiny model: fine-tune, compress to INT8, bench, predict.

What holds for all of them: a metric that grows with quality, one answer per example, one prediction per
input, the same ones as JSON and as a line, and an artifact that answers without torch.
"""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from starlette.testclient import TestClient

from optkit import Gate, Recipe, bench, compress, load
from optkit.data.audio import clip
from optkit.data.dataset import Data
from optkit.runtimes.base import infer_all, open_session
from optkit.serving.http.app import make_app
from optkit.serving.http.settings import ServeSettings
from optkit.tasks import TASKS
from optkit.tasks.base import Columns, open_task
from optkit.training.finetune import FinetuneSettings, finetune
from tests import seq2seq
from tests.conftest import WORDS, write_jsonl
from tests.tasks.builders import (
    decoder,
    digits_data,
    embedder,
    masked_lm,
    sound_model,
    sounds_data,
    speech_data,
    vit,
)
from tests.tasks.pictures import detector, masks_data, segmenter, shapes_data

QUICK = FinetuneSettings(epochs=1, batch=16, learning_rate=3e-3, max_length=None)
COUNTS = {"train": 48, "validation": 20}
PLAN = {"shapes": ("1xdata",), "rounds": 1, "processes": 1, "threads": 1}


def words(rng, least=2, most=12):
    return rng.choices(WORDS, k=rng.randint(least, most))


def classified(rng):
    return {"text": " ".join(words(rng)), "label": rng.choice(["bad", "good", "so so"])}


def tagged(rng):
    tokens = words(rng, 3, 40)
    return {"tokens": tokens, "tags": [{"film": "B-work", "cast": "B-people"}.get(t, "O") for t in tokens]}


def placed(rng):
    row = tagged(rng)
    return {**row, "bboxes": [[20 * i, 5, 20 * i + 15, 9 + i] for i in range(len(row["tokens"]))]}


def asked(rng):
    tokens = words(rng, 3, 40)
    place = rng.randrange(len(tokens))
    start = len(" ".join(tokens[:place])) + (place > 0)
    answers = {"text": [tokens[place]], "answer_start": [start]}
    return {"question": "which one", "context": " ".join(tokens), "answers": answers}


def paired(rng):
    a, b = words(rng), words(rng)
    shared = len(set(a) & set(b)) / len(set(a) | set(b))
    return {"text": " ".join(a), "text_pair": " ".join(b), "label": 5 * shared}


def ranked(rng):
    query = rng.choice(WORDS)
    candidates = [" ".join(words(rng)) for _ in range(rng.randint(2, 5))]
    relevances = [float(query in text.split()) for text in candidates]
    return {"query": query, "documents": candidates, "relevances": [1.0, *relevances[1:]]}


def chosen(rng):
    tokens = words(rng, 4, 12)
    choices = rng.sample(WORDS, k=rng.randint(2, 5))
    return {"question": " ".join(tokens), "choices": choices, "answer": rng.randrange(len(choices))}


def written(rng):
    return {"text": " ".join(words(rng))}


def shortened(rng):
    tokens = words(rng, 3, 20)
    return {"source": " ".join(tokens), "target": " ".join(tokens[:3])}


#: Task → what makes a row of data, and what a caller asks.
ROWS = {
    "text-classification": (classified, "a fine film"),
    "token-classification": (tagged, "the film is good"),
    "layout-token-classification": (
        placed,
        {"words": ["the", "film"], "boxes": [[0, 1, 2, 3], [5, 5, 9, 9]]},
    ),
    "question-answering": (asked, ("which one", "a film is bad and not")),
    "embeddings": (paired, "a fine film"),
    "image-classification": (None, np.zeros((8, 8, 1), dtype=np.uint8)),
    "object-detection": (None, np.zeros((32, 32, 3), dtype=np.uint8)),
    "semantic-segmentation": (None, np.zeros((32, 32, 3), dtype=np.uint8)),
    "causal-lm": (written, "a fine film"),
    "audio-classification": (None, clip(0, 4000)),
    "automatic-speech-recognition": (None, clip(0, 4000)),
    "fill-mask": (written, "a fine [MASK]"),
    "text2text": (shortened, "a fine film"),
    "multiple-choice": (chosen, ("which one", ["film", "a bad cast"])),
    "rerank": (ranked, ("film", ["a fine film", "bad"])),
}


#: Not fine-tuned here; the rest of the way is in the task's own test.
UNTRAINED = {
    *("multi-vector-embeddings", "sparse-embeddings"),
    *("zero-shot-classification", "zero-shot-image-classification"),
}


def source_of(task, folder, checkpoint):
    """A pretrained model of two layers, and data for it."""
    data = folder / "data"
    if task == "image-classification":
        return vit(folder / "model"), digits_data(data, COUNTS["train"], COUNTS["validation"])
    if task == "object-detection":
        return detector(folder / "model"), shapes_data(data, COUNTS)
    if task == "semantic-segmentation":
        return segmenter(folder / "model"), masks_data(data, COUNTS)
    if task == "audio-classification":
        return sound_model(folder / "model"), sounds_data(data, COUNTS["train"], COUNTS["validation"])
    if task == "automatic-speech-recognition":
        return sound_model(folder / "model", writes="ab"), speech_data(data, *COUNTS.values())
    data.mkdir()
    for split, count in COUNTS.items():
        rng = random.Random(count)
        write_jsonl(data / f"{split}.jsonl", [ROWS[task][0](rng) for _ in range(count)])
    if task == "causal-lm":
        return decoder(folder / "model"), data
    if task == "text2text":
        return seq2seq.checkpoint("BART", folder / "model"), data
    if task == "fill-mask":
        return masked_lm(folder / "model"), data
    if task == "layout-token-classification":
        return embedder(folder / "model", "layoutlm"), data
    return (embedder(folder / "model") if task == "embeddings" else checkpoint), data


@pytest.mark.parametrize("name", sorted(set(TASKS) - UNTRAINED))
def test_fine_tune_compress_bench_predict(name, checkpoint, tmp_path):
    model, data = source_of(name, tmp_path, checkpoint)
    split = "test" if name in ("image-classification", "audio-classification") else "validation"
    tuned = finetune(model, data, tmp_path / "tuned", QUICK, task=name)
    assert tuned.task == name

    task = open_task(tuned)
    labelled = task.read(Data(str(data)).split(split), Columns())
    with open_session(tuned) as session:
        answers = task.answers(infer_all(session, labelled.encoded, 8, 512))
    assert len(answers) == len(labelled.references) == len(labelled.sources)
    score = task.score(answers, labelled.references)
    assert np.isfinite(score)
    assert task.agreement(answers, answers) == pytest.approx(1)
    if split == "validation" and not task.has_encoder:  # which is trained by the likelihood of targets
        assert tuned.lineage[-1]["notes"]["score"] == pytest.approx(score, rel=1e-3, abs=1e-4)

    recipe = Recipe.of(["export-onnx", "quantize-dynamic"], Gate(max_drop=None))
    out = tmp_path / "small"
    report = compress(tuned.path, recipe, data=data, out=out, split=split, **PLAN)
    assert (report.task, report.metric) == (name, task.metric)
    assert report.rows[0].score == pytest.approx(score, rel=1e-3, abs=1e-4)
    for row in report.rows:
        assert (row.verdict, row.reasons) in [(v, []) for v in ("baseline", "passed")] or row.reasons == [
            "it is slower than onnxruntime-fp32"
        ]
        assert row.latency[0].p50_ms > 0
        assert row.agreement > 0.5
    assert report.rows[-1].precision == "int8"

    found = bench([str(out), str(tuned.path)], data=data, split=split, warmup=0, **PLAN)
    assert [row.verdict for row in found.rows] == ["baseline", "measured"]

    with load(out) as predictor:
        question = ROWS[name][1]
        one, *more = predictor.predict([question] * 3)
        assert len(more) == 2
        described = predictor.task.describe(one)
        assert json.loads(json.dumps(described)) == described
        assert predictor.task.alike(one, more[0]) == pytest.approx(1)
        assert len(predictor.task.fields(one)) == len(predictor.task.gives())
        assert "\n" not in predictor.task.line(one)
        assert predictor.predict([]) == []
        assert len(predictor.task.samples()) >= 3
    if "images" in task.needs:
        assert over_http(out, [task.to_json(question)] * 2) == [described] * 2


def over_http(folder, instances):
    """The predictions of a server, and of a client of the Open Inference Protocol the first part of each."""
    with TestClient(make_app(ServeSettings({"m": str(folder)}, watch_s=0, drain_s=0))) as client:
        answer = client.post("/v1/models/m:predict", json={"instances": instances})
        assert answer.status_code == 200, answer.text
        tensor = {"name": "image", "datatype": "BYTES", "shape": [2], "data": [x["b64"] for x in instances]}
        infer = client.post("/v2/models/m/infer", json={"inputs": [tensor]})
        assert infer.status_code == 200, infer.text
        assert infer.json()["outputs"][0]["shape"][0] == 2
        wrong = client.post("/v1/models/m:predict", json={"instances": [{"b64": "AAAA"}]})
        assert wrong.status_code == 422
    return answer.json()["predictions"]
