"""What Whisper's graphs write is, token for token and time for time, what transformers' `generate` writes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from optkit import Artifact
from optkit.data.audio import clip
from optkit.errors import CheckpointError, RecipeError
from optkit.models.languages import CODES, token_of
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import open_session
from optkit.runtimes.search_settings import SearchSettings, TimestampRules
from optkit.runtimes.speech import ASKED, SEGMENTS, SEQUENCES, SpeechSettings
from optkit.tasks.base import open_task
from tests import whisper

#: generation_config.json beside that of tests/whisper.py → what `generate` and `predict` are asked for.
ASKS = [
    ({}, {}),
    ({}, {"language": "de"}),
    ({}, {"language": "English", "task": "translate"}),
    ({}, {"task": "transcribe", "return_timestamps": True}),
    ({"language": "german", "task": "translate"}, {}),
    ({"forced_decoder_ids": [[1, None], [2, whisper.TRANSCRIBE]]}, {}),
    ({"forced_decoder_ids": [[1, whisper.GERMAN], [2, whisper.TRANSCRIBE], [3, whisper.NO_TIMES]]}, {}),
    ({"forced_decoder_ids": [[1, whisper.NO_TIMES]]}, {"return_timestamps": True}),
    ({"is_multilingual": False, "lang_to_id": None, "task_to_id": None}, {}),
    ({"max_length": None, "max_new_tokens": 9, "min_new_tokens": 4}, {"return_timestamps": True}),
    ({"max_length": None, "max_initial_timestamp_index": None}, {"return_timestamps": True}),
    ({"no_repeat_ngram_size": 2, "repetition_penalty": 1.2}, {"return_timestamps": True}),
    ({"num_beams": 3, "length_penalty": 0.5}, {"language": "de", "return_timestamps": True}),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return Artifact.open(whisper.checkpoint(tmp_path_factory.mktemp("speech") / "model"))


@pytest.fixture(scope="module")
def session(source, tmp_path_factory):
    made = apply(
        make("export-onnx", {}),
        source,
        tmp_path_factory.mktemp("graphs") / "onnx",
        make_context(open_task(source)),
    )
    notes = made.lineage[-1]["notes"]
    assert notes["max_difference"] < 1e-3
    assert notes["texts_equal"] == 4
    with open_session(made) as session:
        yield session


@pytest.fixture(scope="module")
def model(source):
    from transformers import AutoModelForSpeechSeq2Seq

    return AutoModelForSpeechSeq2Seq.from_pretrained(source.path)


@pytest.mark.parametrize(("stated", "asked"), ASKS)
def test_tokens_and_times_are_those_of_generate(stated, asked, source, session, model, monkeypatch):
    """Two sounds in one batch, and one that is longer than a window."""
    from transformers import GenerationConfig

    changed = {**model.generation_config.to_dict(), **stated}
    changed = {name: value for name, value in changed.items() if value is not None}
    monkeypatch.setattr(model, "generation_config", GenerationConfig(**changed))
    monkeypatch.setattr(session, "speech", SpeechSettings.of(changed, source.config))
    monkeypatch.setattr(session, "settings", session.speech.search)
    row = session.speech.asked(asked.get("language"), asked.get("task"), asked.get("return_timestamps"))
    encoder, lengths = open_task(source).encoder, set()
    for batch in ([(0, 0.9), (1, 0.9)], [(3, 2.3)]):
        features = np.stack([encoder.features(clip(i, 16000, s), whole=True) for i, s in batch])
        written = session.infer({"input_features": features, ASKED: np.stack([row] * len(batch))})
        for own, times, one in zip(written[SEQUENCES], written[SEGMENTS], features):
            given = {**asked, "return_timestamps": True} if one.shape[1] > 100 else asked
            tokens, segments = whisper.generated(model, one, **given)
            assert own.tolist() == tokens
            assert times[:, :2].tolist() == [[round(100 * x) for x in s] for s in segments]
            assert times[:, 2].sum() == len(tokens)
            lengths.add(len(tokens))
    assert len(lengths) > 1, "texts of one length prove nothing about their end"


def test_sounds_that_are_asked_for_otherwise_share_a_batch(source, session):
    speech, encoder = session.speech, open_task(source).encoder
    rows = [speech.asked(), speech.asked("de"), speech.asked(timestamps=True), speech.asked("de")]
    features = np.stack([encoder.features(clip(i, 16000, 0.9)) for i in range(4)])
    together = session.infer({"input_features": features, ASKED: np.stack(rows)})
    for i, row in enumerate(rows):
        alone = session.infer({"input_features": features[i : i + 1], ASKED: row[None]})
        assert alone[SEQUENCES][0].tolist() == together[SEQUENCES][i].tolist()
    usual = session.infer({"input_features": features[:1]})
    assert usual[SEQUENCES][0].tolist() == together[SEQUENCES][0].tolist()


def test_torch_writes_the_same(source, session):
    encoder = open_task(source).encoder
    features = np.stack([encoder.features(clip(i, 16000, 2.2), whole=True) for i in range(2)])
    for row in (session.speech.asked(), session.speech.asked("en", "translate", True)):
        feeds = {"input_features": features, ASKED: np.stack([row] * 2)}
        with open_session(source) as torch:
            right, received = torch.infer(feeds), session.infer(feeds)
        for name in (SEQUENCES, SEGMENTS):
            assert [x.tolist() for x in right[name]] == [x.tolist() for x in received[name]]


def test_rules_of_times_are_those_of_transformers():
    import torch
    from transformers import GenerationConfig, WhisperTimeStampLogitsProcessor

    random, first, begin = np.random.default_rng(0), 20, 3
    settings = SearchSettings(1, (9,), 0, 99, begin=begin)
    for latest in (None, 4):
        stated = {
            "eos_token_id": 9,
            "no_timestamps_token_id": first - 1,
            "max_initial_timestamp_index": latest,
        }
        theirs = WhisperTimeStampLogitsProcessor(GenerationConfig(**stated), begin_index=begin)
        for length in (0, 0, 1, 1, 2, 2, *range(3, 12)):
            written = random.integers(10, 30, (64, begin + length))
            scores = random.normal(0, 3, (64, 32)).astype(np.float32)
            right = theirs(torch.from_numpy(written), torch.from_numpy(scores)).numpy()
            TimestampRules(first, latest).apply(written, scores, settings)
            np.testing.assert_array_equal(scores, right)


def test_languages_are_those_of_transformers():
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    assert CODES == TO_LANGUAGE_CODE
    assert token_of("Haitian Creole") == "<|ht|>"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"language": "klingon"}, "language that the model knows, received 'klingon'"),
        ({"language": "french"}, "received 'fr'"),
        ({"task": "sing"}, "task that the model knows, received 'sing'"),
    ],
)
def test_what_the_model_does_not_know_is_refused(asked, message, session):
    with pytest.raises(RecipeError, match=message):
        session.speech.asked(**asked)


def test_models_of_one_language_take_none(session):
    one = replace(session.speech, multilingual=False, no_timestamps=None)
    with pytest.raises(RecipeError, match="writes one language"):
        one.asked("en")
    with pytest.raises(RecipeError, match="writes no times"):
        one.asked(timestamps=True)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"compression_ratio_threshold": 1.35}, "compression_ratio_threshold"),
        ({"condition_on_prev_tokens": True}, "condition_on_prev_tokens"),
        ({"language": "french"}, "received 'fr'"),
        ({"forced_decoder_ids": [[1, 2], [3, 4]]}, "for each place"),
        ({"eos_token_id": [1, 2]}, "one eos_token_id"),
    ],
)
def test_settings_that_are_not_followed_are_refused(stated, message, source, model):
    with pytest.raises(CheckpointError, match=message):
        SpeechSettings.of({**model.generation_config.to_dict(), **stated}, source.config)
