from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import soxr

from optkit.data import audio
from optkit.data.dataset import Data
from optkit.errors import DataError
from tests.tasks.builders import sounds_data


def file_of(values, rate, kind="WAV", subtype=None) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, values, rate, format=kind, subtype=subtype)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2), (44100, 2), (48000, 1)])
def test_files_of_every_kind_are_mixed_down_and_resampled(kind, rate, channels, tmp_path):
    """As soundfile and soxr do it in one piece; here it is done in blocks."""
    values = np.stack([audio.clip(i, rate, 5.0) for i in range(channels)], axis=1)
    content = file_of(values, rate, kind)
    whole, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    expected = whole.mean(axis=1) if rate == 16000 else soxr.resample(whole.mean(axis=1), rate, 16000)
    (tmp_path / "x").write_bytes(content)
    for item in (content, tmp_path / "x", str(tmp_path / "x"), {"bytes": content, "path": None}):
        np.testing.assert_allclose(audio.samples(item, 16000), expected, atol=1e-6)


def test_samples_are_taken_as_arrays():
    values = audio.clip(0, 8000, 0.5)
    np.testing.assert_array_equal(audio.samples(values, 8000), values)
    both = {"array": np.stack([values, values]), "sampling_rate": 8000}
    np.testing.assert_allclose(audio.samples(both, 16000), soxr.resample(values, 8000, 16000), atol=1e-6)
    whole = (values * 32767).astype(np.int16)
    np.testing.assert_allclose(audio.samples(whole, 8000), whole / 32768, atol=1e-6)


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0xFFFFFFFF])
def test_a_streamed_wav_is_read_to_its_end(size):
    content = file_of(np.full(999, 0.5), 16000)
    streamed = content[:40] + size.to_bytes(4, "little") + content[44:]
    assert content[36:40] == b"data"
    assert len(audio.samples(streamed, 16000)) == 999


NAN = np.array([0.1, np.nan, 0.2], dtype=np.float32)
BROKEN = {
    "nothing": (b"", "cannot be read"),
    "text": (b"not a sound", "cannot be read"),
    "a cut-off FLAC": (file_of(audio.clip(0, 16000, 4.0), 16000, "FLAC")[:20_000], "broken"),
    "a cut-off WAV": (file_of(np.zeros(9999), 16000)[:5000], "cut off"),
    "a cut-off MP3": (file_of(audio.clip(0, 16000, 4.0), 16000, "MP3")[:9000], "cut off"),
    "a cut-off RF64": (file_of(np.zeros(9999), 16000, "RF64")[:5000], "cut off"),
    "unsigned samples": (np.zeros(99, np.uint8), "signed whole numbers"),
    "AIFF": (file_of(np.zeros(99), 16000, "AIFF"), "received AIFF"),
    "no samples": (file_of(np.empty(0), 16000), "received none"),
    "1 Hz": (file_of(np.zeros(99), 1), "4,000 to 384,000 samples a second"),
    "3 MHz": (file_of(np.zeros(99), 3_000_000), "received 3,000,000"),
    "20 channels": (file_of(np.zeros((9, 20)), 16000), "1 to 16 channels"),
    "NaN": (file_of(NAN, 16000, "WAV", "FLOAT"), "received nan"),
    "NaN in samples": (NAN, "received nan"),
    "no numbers": (np.array(["a"]), "samples as an array"),
    "three dimensions": (np.zeros((2, 2, 2)), "samples as an array"),
    "no rate": ({"array": np.zeros(9), "sampling_rate": None}, "samples as an array"),
    "a number": (3, "received int"),
    "no file": ("/nowhere.wav", "No such file"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_sound_is_one_clear_error(what):
    item, message = BROKEN[what]
    with pytest.raises(DataError, match=message):
        audio.samples(item, 16000)


def test_no_more_is_decoded_than_the_limit(monkeypatch):
    content = file_of(np.zeros(16000 * 3), 16000, "FLAC")
    monkeypatch.setattr(audio, "MOST_SECONDS", 2)
    with pytest.raises(DataError, match="at most 2 seconds"):
        audio.samples(content, 16000)
    with pytest.raises(DataError, match="at most 2 seconds"):
        audio.samples(np.zeros(16000 * 3, np.float32), 16000)


def test_folders_per_label_and_tables_beside_files_are_data_sets(tmp_path):
    sounds_data(tmp_path / "a", 4, 2)
    rows = Data(str(tmp_path / "a")).split("train")
    assert rows.column_names == ["audio", "label"]
    assert set(rows["label"]) == {"high", "low"}
    before = Data(str(tmp_path / "a")).fingerprint("train")
    next((tmp_path / "a" / "train" / "low").iterdir()).write_bytes(b"other")
    assert Data(str(tmp_path / "a")).fingerprint("train") != before

    (tmp_path / "b").mkdir()
    for i in range(4):
        (tmp_path / "b" / f"{i}.wav").write_bytes(audio.wav(np.zeros(99), 8000))
    lines = [f"{i}.wav,hello {i}" for i in range(4)]
    (tmp_path / "b" / "metadata.csv").write_text("\n".join(["file_name,transcription", *lines]))
    rows = Data(str(tmp_path / "b")).split("train")
    assert len(audio.samples(rows[0]["file_name"], 8000)) == 99

    (tmp_path / "a" / "train" / "stray.wav").write_bytes(b"")
    with pytest.raises(DataError, match="would be left out"):
        Data(str(tmp_path / "a")).split("train")


def test_what_a_data_set_decoded_becomes_a_file_again():
    from datasets import Dataset

    values = audio.clip(1, 8000, 0.2)
    rows = Dataset.from_dict({"audio": [{"array": values.tolist(), "sampling_rate": 8000}]})
    (content,) = audio.playable(rows, "audio")
    np.testing.assert_allclose(audio.samples(content, 8000), values, atol=1e-4)
