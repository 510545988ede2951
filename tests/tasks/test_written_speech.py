"""Speech by a model with a decoder: compressed, scored, asked for times and languages, served, fine-tuned."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from optkit import Artifact, Gate, Recipe, compress, load
from optkit.data.audio import clip, wav
from optkit.data.dataset import Data
from optkit.errors import CheckpointError, DataError, PassError, RecipeError
from optkit.passes.base import make
from optkit.tasks.base import Columns, open_task
from optkit.training.finetune import FinetuneSettings, finetune
from tests import whisper

QUICK = {"shapes": ("1xdata",), "rounds": 1, "processes": 1}
ANY = Gate(max_drop=None)
PATH = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model compressed to INT8, and its report."""
    folder = tmp_path_factory.mktemp("written")
    source, data = whisper.checkpoint(folder / "model"), whisper.data(folder / "data")
    recipe = Recipe.of(["export-onnx", "quantize-dynamic"], ANY)
    return folder, compress(source, recipe, data=data, out=folder / "small", **QUICK)


def test_the_baseline_is_transformers_and_errors_are_counted(made):
    _, report = made
    baseline, exported, int8 = report.rows
    assert (report.task, report.metric) == ("automatic-speech-recognition", "neg_wer")
    assert baseline.notes["reference"] == {"by": "transformers", "doubts": []}
    assert (exported.score, exported.agreement) == (baseline.score, 1)
    assert (int8.precision, int8.probes["int8"]["int8_multiplies"]) == (
        "int8",
        int8.notes["quantized_matmuls"],
    )
    assert int8.size_bytes < exported.size_bytes
    assert int8.drop.low <= int8.drop.value <= int8.drop.high


def test_texts_times_and_languages_are_those_of_transformers(made):
    from transformers import AutoModelForSpeechSeq2Seq, AutoTokenizer

    folder, _ = made
    onnx = folder / "small"
    model = AutoModelForSpeechSeq2Seq.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    sounds = [clip(0, 16000, 0.7), clip(1, 16000, 2.4)]
    with load(folder / "model") as predictor:
        for options, given in (
            ({}, {}),
            ({"timestamps": True}, {"return_timestamps": True}),
            (
                {"language": "german", "translate": True, "timestamps": True},
                {"language": "de", "task": "translate", "return_timestamps": True},
            ),
        ):
            for sound, answer in zip(sounds, predictor.predict(sounds, **options)):
                features = predictor.encode([sound]).arrays["input_features"][0]
                given = {**given, "return_timestamps": True} if len(sound) > 16000 else given
                tokens, times = whisper.generated(model, features, **given)
                assert answer.text == tokenizer.decode(tokens, skip_special_tokens=True).strip()
                timed = tokens[0] > whisper.NO_TIMES
                assert [[s.start, s.end] for s in answer.segments] == [
                    [pytest.approx(x) for x in pair] for pair in (times if timed else [])
                ]
        with pytest.raises(RecipeError, match="Unknown option 'beams'"):
            predictor.predict(sounds, beams=3)
        with pytest.raises(RecipeError, match="language that the model knows"):
            predictor.predict(sounds, language="klingon")
    with load(onnx) as predictor:
        short, long = predictor.predict(sounds)
        assert short.segments == []
        assert long.segments
        assert predictor.task.describe(long)["segments"][0].keys() == {"text", "start", "end"}


def test_it_is_served_without_torch(made, tmp_path):
    folder, _ = made
    (tmp_path / "a.wav").write_bytes(wav(clip(2, 16000, 1.4), 16000))
    code = (
        "import sys, optkit; answers = optkit.predict(sys.argv[1], [sys.argv[2]], timestamps=True).records; "
        "assert not {'torch', 'transformers'} & set(sys.modules); print(answers[0]['segments'])"
    )
    command = [sys.executable, "-c", code, str(folder / "small"), str(tmp_path / "a.wav")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "'start':" in said


def test_a_form_is_answered_with_segments(made):
    from starlette.testclient import TestClient

    from optkit.serving.http.app import make_app
    from optkit.serving.http.settings import ServeSettings

    folder, _ = made
    content = wav(clip(1, 16000, 1.6), 16000)
    with load(folder / "small") as predictor:
        plain = predictor.predict_one(content)
        german = predictor.predict_one(content, language="de", timestamps=True)
    app = make_app(ServeSettings({"speech": str(folder / "small")}, watch_s=0, drain_s=0))
    with TestClient(app) as client:

        def send(**fields):
            data = {"model": "speech", **fields}
            return client.post(PATH, files={"file": ("a.wav", content)}, data=data)

        assert send(temperature="0").json() == {"text": plain.text}
        verbose = send(response_format="verbose_json", language="de").json()
        assert verbose["text"] == german.text
        assert [(s["id"], s["start"], s["end"], s["text"]) for s in verbose["segments"]] == [
            (i, s.start, s.end, s.text) for i, s in enumerate(german.segments)
        ]
        for refused in ({"prompt": "x"}, {"temperature": "0.5"}, {"language": "klingon"}):
            assert send(**refused).status_code == 422, refused
        assert send(**{"timestamp_granularities[]": "word"}).status_code == 422
        assert send(**{"timestamp_granularities[]": "segment"}).status_code == 200


def test_case_and_punctuation_count_no_errors(made):
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    from optkit.tasks.written_speech import normalized

    for text in ("It's [noise] Dr. Müller!", "(laughs) 3,5 % — “ja”", "ﬁne  Ünïcode ½ (a (b) c)", ""):
        assert normalized(text) == BasicTextNormalizer()(text).strip()
    task = open_task(Artifact.open(made[0] / "model"))
    answers = np.array(["Well, it is.", "no"], dtype=object)
    assert task.score(answers, ["well it is", "so it goes"]) == pytest.approx(-3 / 6)


def test_an_hour_takes_the_memory_of_its_features(made):
    """Features of a window are made at a time, and equal those of the whole."""
    encoder = open_task(Artifact.open(made[0] / "model")).encoder
    values = clip(5, 16000, 65.3)
    import transformers

    theirs = transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    right = theirs(values, sampling_rate=16000, truncation=False, padding="longest", return_tensors="np")
    received = encoder.features(values, whole=True)
    np.testing.assert_allclose(received, right["input_features"][0], atol=1e-4)
    assert received.dtype == np.float32
    assert encoder.features(values).shape == (16, 100)


def test_a_sentence_is_learned(tmp_path):
    source = whisper.checkpoint(tmp_path / "model", language="en", task="transcribe")
    data = whisper.data(tmp_path / "data", 16, 8, longest=0.9)
    settings = FinetuneSettings(epochs=3, batch=8, learning_rate=3e-3, max_length=None)
    tuned = finetune(source, data, tmp_path / "tuned", settings)
    notes = tuned.lineage[-1]["notes"]
    assert (tuned.task, notes["metric"]) == ("automatic-speech-recognition", "neg_perplexity")
    assert notes["history"][-1]["score"] > notes["history"][0]["score"]
    with load(tuned.path) as predictor:
        predictor.predict_one(clip(0, 16000, 0.5))


def test_what_cannot_be_learned_is_named(made, tmp_path):
    task = open_task(Artifact.open(made[0] / "model"))
    with pytest.raises(RecipeError, match="the language of the data"):
        type(task).for_training(Artifact.open(made[0] / "model"), {}, None)
    labelled = task.read(Data(str(made[0] / "data")).split("validation"), Columns())
    with pytest.raises(DataError, match="at most 1 seconds"):
        task.to_learn(labelled, 0)


def test_targets_are_what_transformers_trains_on(tmp_path):
    from transformers import AutoTokenizer

    folder = whisper.checkpoint(tmp_path / "model", language="en", task="transcribe")
    task, data = open_task(Artifact.open(folder)), whisper.data(tmp_path / "data", 2, 1, longest=0.9)
    labelled = task.read(Data(str(data)).split("train"), Columns())
    tokenizer = AutoTokenizer.from_pretrained(folder, language="english", task="transcribe")
    for own, text in zip(task.targets(labelled)["labels"], labelled.references):
        assert own.tolist() == tokenizer(text)["input_ids"][1:]


def test_what_does_not_fit_is_refused_before_any_work(made, tmp_path):
    folder, _ = made
    for name in ("prune", "distill", "open-vino", "quantize-static"):
        before = ["export-onnx"] if name in ("open-vino", "quantize-static") else []
        steps = [make(step, {}) for step in (*before, name)]
        with pytest.raises(PassError, match=f"{name} does not take a model for automatic-speech"):
            compress(
                folder / "model", Recipe.of(steps, ANY), data=folder / "data", out=tmp_path / "o", **QUICK
            )
        assert not (tmp_path / "o").exists()
    with pytest.raises(RecipeError, match="bucket"):
        load(folder / "small", bucket=8)
    other = whisper.checkpoint(tmp_path / "other")
    settings = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps({**settings, "chunk_length": 2}))
    with pytest.raises(CheckpointError, match="preprocessor_config.json to make"):
        open_task(Artifact.open(other))
