from __future__ import annotations

import numpy as np
import pytest

from optkit.benchmarking.reference import compare
from optkit.benchmarking.reference.tasks import reference_of
from optkit.core.artifact import Artifact
from optkit.data import audio
from optkit.errors import CheckpointError, DataError
from optkit.models.architectures import task_of
from optkit.models.ctc import Characters
from optkit.models.task import TASKS
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks import automatic_speech_recognition as asr
from optkit.tasks.base import Columns, open_task
from tests.tasks.builders import sound_model, speech_data


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Artifact.open(sound_model(tmp_path_factory.mktemp("ctc") / "m", writes="abcdefgh"))


@pytest.fixture
def short_windows(monkeypatch):
    """Windows of 3 seconds with half a second shared."""
    from optkit.benchmarking.reference import speech_recognition

    monkeypatch.setattr(asr, "WINDOW_S", 3)
    monkeypatch.setattr(asr, "SHARED_S", 0.5)
    monkeypatch.setattr(speech_recognition, "WINDOW_S", 3)
    monkeypatch.setattr(speech_recognition, "STRIDE_S", 0.5)


def pipeline_of(folder):
    import transformers

    return transformers.pipeline(
        "automatic-speech-recognition",
        model=transformers.AutoModelForCTC.from_pretrained(folder),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        feature_extractor=transformers.AutoFeatureExtractor.from_pretrained(folder),
    )


@pytest.mark.parametrize("seconds", [0.2, 1.0, 2.99, 3.0, 3.01, 4.4, 7.77, 12.0])
def test_text_and_words_are_those_of_the_pipeline(seconds, model, short_windows):
    task = open_task(model)
    values = audio.clip(int(seconds * 100), 4000, seconds)
    said = pipeline_of(model.path)(
        {"raw": values.copy(), "sampling_rate": 4000},
        **{"chunk_length_s": 3, "stride_length_s": 0.5, "return_timestamps": "word"},
    )
    with open_session(model) as session:
        (answer,) = task.decode(infer_all(session, task.encode([values]), 8, 4096))
    assert answer.text == said["text"] != ""
    assert answer.seconds == pytest.approx(len(values) / 4000)
    found = [(word.text, word.start, word.end) for word in answer.words]
    assert found == [(c["text"], *map(pytest.approx, c["timestamp"])) for c in said["chunks"]]
    assert 0 < answer.score <= 1


def test_the_baseline_compares_windows(model, short_windows, tmp_path):
    task = open_task(model)
    files = [str(tmp_path / f"{i}.wav") for i in range(3)]
    for i in range(3):
        (tmp_path / f"{i}.wav").write_bytes(audio.wav(audio.clip(i, 4000, 0.5 + 3.3 * i), 4000))
    theirs = reference_of(task)(model.path)
    rows, encoded = theirs.rows(files), task.encode(files)
    assert len(rows) == len(encoded) > len(files)
    compare.rows(rows, encoded.arrays, files, theirs)
    expected = theirs.outputs(rows, files)
    with open_session(model) as session:
        own = infer_all(session, encoded, 8, 4096)
    assert compare.outputs(expected, own, lambda i: []) == []
    compare.answers(theirs, task, own, files)


def test_models_with_other_decoders_are_refused_in_words():
    with pytest.raises(CheckpointError, match="with a decoder"):
        task_of({"model_type": "moonshine", "architectures": ["MoonshineForConditionalGeneration"]})
    whisper = {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}
    assert task_of(whisper) == "automatic-speech-recognition"
    assert task_of({"model_type": "whisper", "architectures": ["WhisperForAudioClassification"]})


def test_errors_are_counted_over_all_utterances():
    task = asr.SpeechRecognition(Characters.of(["ab"]), "neg_wer", None)  # type: ignore[arg-type]
    answers = np.array(["a b", "a", ""], dtype=object)
    assert task.score(answers, ["a b", "b b b", ""]) == pytest.approx(-3 / 5)
    assert np.isnan(task.score(answers[:1], [""]))
    task.metric = "neg_cer"
    assert task.score(answers, ["a b", "ab", ""]) == pytest.approx(-1 / 5)


def test_references_are_spelled_as_the_model_writes(model, tmp_path):
    from optkit.data.dataset import Data

    rows = Data(str(speech_data(tmp_path / "d", 3, 2))).split("train")
    assert asr.SpeechRecognition.fits(rows, Columns())
    assert not TASKS["audio-classification"].fits(rows, Columns())
    labelled = open_task(model).read(
        rows.map(lambda r: {"transcription": r["transcription"].upper()}), Columns()
    )
    assert labelled.references == rows["transcription"]


def test_what_cannot_be_learned_is_named(model, short_windows):
    task = open_task(model)
    long = task.encode([audio.clip(0, 4000, 1.0), audio.clip(0, 4000, 5.0)])
    from optkit.tasks.base import Labelled

    with pytest.raises(DataError, match=r"at most 3 seconds .*'second'"):
        task.to_learn(Labelled(long, ["a", "b"], ["first", "second"]), 0)
    short = task.encode([audio.clip(0, 4000, 0.1)])
    with pytest.raises(DataError, match="characters, for which 'x' is long enough"):
        task.to_learn(Labelled(short, ["a" * 50], ["x"]), 0)
    with pytest.raises(DataError, match="received 0"):
        task.to_learn(Labelled(short, [""], ["x"]), 0)
