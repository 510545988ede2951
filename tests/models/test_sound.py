from __future__ import annotations

import json

import numpy as np
import pytest

from optkit.data import audio
from optkit.errors import CheckpointError, DataError
from optkit.models.sound import SoundEncoder, frame_count, samples_for

CONVOLUTIONS = {"conv_kernel": [10, 3, 2], "conv_stride": [5, 2, 2]}
EXTRACTORS = [
    ("Wav2Vec2", {}),
    ("Wav2Vec2", {"do_normalize": False, "sampling_rate": 8000}),
    ("AST", {"max_length": 64}),
    ("AST", {"num_mel_bins": 32, "max_length": 20, "mean": -3.0, "std": 2.0}),
    ("Whisper", {"chunk_length": 2}),
    ("Whisper", {"chunk_length": 1, "feature_size": 40}),
]


def write(folder, kind, settings, nested=False):
    stated = {"feature_extractor_type": f"{kind}FeatureExtractor", **settings}
    name, value = ("processor", {"feature_extractor": stated}) if nested else ("preprocessor", stated)
    (folder / f"{name}_config.json").write_text(json.dumps(value))
    (folder / "config.json").write_text(json.dumps(CONVOLUTIONS if kind == "Wav2Vec2" else {}))
    return folder


@pytest.mark.parametrize(("kind", "settings"), EXTRACTORS)
def test_features_are_those_of_transformers(kind, settings, tmp_path):
    import transformers

    theirs = getattr(transformers, f"{kind}FeatureExtractor")(**settings)
    own = SoundEncoder(write(tmp_path, kind, settings))
    sounds = [audio.clip(i, own.rate) for i in range(4)]
    sounds += [audio.clip(9, own.rate, 3.0), np.zeros(5000, np.float32), audio.clip(1, own.rate, 0.03)]
    for values, features in zip(sounds, own.encode(sounds).arrays[own.name]):
        expected = theirs(values, sampling_rate=own.rate, return_tensors="np")[own.name][0]
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, expected, atol=1e-4)
        assert own.shape in (features.shape, ("sequence",))


def test_settings_of_a_whole_processor_are_believed_first(tmp_path):
    write(tmp_path, "Wav2Vec2", {"sampling_rate": 8000})
    write(tmp_path, "Wav2Vec2", {"sampling_rate": 24000}, nested=True)
    assert SoundEncoder(tmp_path).rate == 24000


def test_frames_are_those_of_the_convolutions(tmp_path):
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(conv_dim=[4, 4, 4], **CONVOLUTIONS)
    count = Wav2Vec2Model._get_feat_extract_output_lengths
    for samples in range(40, 400, 7):
        assert frame_count(CONVOLUTIONS, samples) == count(
            type("M", (), {"config": config})(), samples, False
        )
    assert frame_count(CONVOLUTIONS, samples_for(CONVOLUTIONS, 5)) == 5
    assert frame_count(CONVOLUTIONS, samples_for(CONVOLUTIONS, 5) - 1) == 4
    least = SoundEncoder(write(tmp_path, "Wav2Vec2", {})).least
    with pytest.raises(DataError, match=f"at least {least} samples .* position 1, received {least - 1}"):
        SoundEncoder(tmp_path).encode([np.zeros(least, np.float32), np.zeros(least - 1, np.float32)])


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("SeamlessM4T", {}, "received 'SeamlessM4TFeatureExtractor'"),
        ("Whisper", {"dither": 0.1}, "dither"),
        ("Wav2Vec2", {"sampling_rate": 1}, "sampling_rate"),
    ],
)
def test_settings_that_are_not_followed_are_refused(kind, settings, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        SoundEncoder(write(tmp_path, kind, settings))
