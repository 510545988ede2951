"""`SoundEncoder`: audio to what a model reads, with numpy alone, as its feature extractor's settings say.

Three ways are known: samples of zero mean and unit variance (Wav2Vec2FeatureExtractor), Kaldi's filter bank
(ASTFeatureExtractor) and Whisper's logarithm of mel bands. Serving needs neither torch nor transformers
for it. Read from transformers 5.23.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from optkit.core.reading import read_json
from optkit.data import audio
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, DataError

#: Settings alone, and those of a whole processor, which transformers believes first.
FILE, PROCESSOR = "preprocessor_config.json", "processor_config.json"
#: Extractor → its defaults.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "Wav2Vec2": {"do_normalize": True},
    "AST": {
        **{"num_mel_bins": 128, "max_length": 1024, "do_normalize": True},
        **{"mean": -4.2677393, "std": 4.5689974},
    },
    "Whisper": {"feature_size": 80, "hop_length": 160, "chunk_length": 30, "n_fft": 400, "dither": 0.0},
}
#: model_type → extractor, where the settings name none, as transformers' own table.
_BY_MODEL = {"audio-spectrogram-transformer": "AST", "whisper": "Whisper"}
#: Kaldi's frames: 25 ms every 10 ms at 16,000 samples a second, and the floor of a band's energy.
_FRAME, _HOP, _FFT, _FLOOR = 400, 160, 512, 1.192092955078125e-07
#: Frames of Whisper's that are made at once.
_BLOCK = 3000


class SoundEncoder:
    """Encodes audio (see `optkit.data.audio.samples`) as float32.

    `input_values` are (samples,) or (frames, bands), `input_features` (bands, frames).

    `rate` is in samples a second, `shape` that of one input, without the batch, `config` the model's.
    """

    def __init__(self, folder: Path) -> None:
        stated, self.config = _settings(folder), read_json(folder / "config.json", CheckpointError)
        self.kind = _kind(stated, self.config)
        self._settings = {"sampling_rate": 16_000, **_DEFAULTS[self.kind], **stated}
        self.rate = int(self._settings["sampling_rate"])
        if not audio.RATES[0] <= self.rate <= audio.RATES[1]:
            raise CheckpointError(f"Expected a sampling_rate in {audio.RATES}, received {self.rate}.")
        if self._settings.get("dither"):
            raise CheckpointError(
                f"Expected settings that read a sound alike each time, received dither in {FILE}.",
                hint="Set it to 0: it adds noise at random.",
            )
        self.name = "input_features" if self.kind == "Whisper" else "input_values"

    def encode(self, items: Sequence[Any]) -> EncodedSet:
        """Raises DataError where an item is no audio, or too short for the model."""
        return EncodedSet({self.name: [self.features(self.samples(x, i)) for i, x in enumerate(items)]}, {})

    def samples(self, item: Any, position: int = 0) -> np.ndarray:
        """`item` as (samples,) at the model's rate. Raises DataError."""
        values = audio.samples(item, self.rate, position)
        if len(values) < self.least:
            raise DataError(
                f"Expected at least {self.least} samples at {self.rate:,} a second at position {position}, "
                f"received {len(values)}.",
                hint="The model makes nothing of less.",
            )
        return values

    def truncate(self, max_length: int | None) -> None:
        """Nothing: a sound has no tokens."""

    @cached_property
    def least(self) -> int:
        """Samples of which the model's convolutions make one frame, or the first frame of a filter bank."""
        if self.kind == "Whisper":
            return 1
        if self.kind == "AST":
            return _FRAME
        return samples_for(self.config, int(self.config.get("squeeze_factor") or 1))

    @property
    def shape(self) -> tuple[int | str, ...]:
        s = self._settings
        if self.kind == "Whisper":
            return int(s["feature_size"]), s["chunk_length"] * self.rate // s["hop_length"]
        return (int(s["max_length"]), int(s["num_mel_bins"])) if self.kind == "AST" else ("sequence",)

    def features(self, values: np.ndarray, whole: bool = False) -> np.ndarray:
        """What the model is fed for (samples,) at its rate; of shape `shape`. Where that has frames, what is
        longer is cut off, unless `whole`, which Whisper's can be."""
        if self.kind == "Whisper":
            return self._log_mel(values, whole)
        if self.kind == "AST":
            return self._filter_bank(values)
        if not self._settings["do_normalize"]:
            return values
        return ((values - values.mean()) / np.sqrt(values.var() + 1e-7)).astype(np.float32)

    def described(self) -> dict[str, Any]:
        """What counts of the settings: equal where two encoders make the same of a sound."""
        names = ("sampling_rate", *_DEFAULTS[self.kind])
        return {"kind": self.kind, **{name: self._settings[name] for name in names}}

    def _filter_bank(self, values: np.ndarray) -> np.ndarray:
        s = self._settings
        bins, rows = int(s["num_mel_bins"]), int(s["max_length"])
        frames = _frames(values[: (rows - 1) * _HOP + _FRAME].astype(np.float64), _FRAME, _HOP)
        frames = frames - frames.mean(axis=1, keepdims=True)
        first = frames[:, :1] * (1 - 0.97)  # Kaldi's pre-emphasis
        frames = np.concatenate([first, frames[:, 1:] - 0.97 * frames[:, :-1]], axis=1) * np.hanning(_FRAME)
        power = np.abs(np.fft.rfft(frames, _FFT).astype(np.complex64)).astype(np.float64) ** 2
        bands = np.log(np.maximum(_FLOOR, power @ self._kaldi(bins))).astype(np.float32)
        features = np.zeros((rows, bins), dtype=np.float32)
        features[: len(bands)] = bands
        return (features - s["mean"]) / (s["std"] * 2) if s["do_normalize"] else features

    def _kaldi(self, bins: int) -> np.ndarray:
        """Triangles in mel space from 20 Hz to half the rate, (frequencies, bands)."""
        low, high = (1127.0 * np.log(1.0 + f / 700.0) for f in (20, self.rate // 2))
        mels = 1127.0 * np.log(1.0 + np.arange(_FFT // 2 + 1) * (self.rate / _FFT) / 700.0)
        return _triangles(mels, np.linspace(low, high, bins + 2))

    def _log_mel(self, values: np.ndarray, whole: bool) -> np.ndarray:
        s = self._settings
        size, hop, bins = int(s["n_fft"]), int(s["hop_length"]), int(s["feature_size"])
        count = int(s["chunk_length"]) * self.rate
        padded = np.zeros(max(count, len(values)) if whole else count, dtype=np.float32)
        padded[: len(values)] = values[: len(padded)]
        frames = _frames(np.pad(padded, size // 2, mode="reflect"), size, hop)[:-1]
        window = np.hanning(size + 1)[:-1]
        edges = _slaney_hertz(np.linspace(0.0, _slaney_mel(8000.0), bins + 2))
        filters = _triangles(np.linspace(0, self.rate // 2, size // 2 + 1), edges)
        filters *= (2.0 / (edges[2:] - edges[:-2]))[None]
        bands = np.empty((bins, len(frames)), dtype=np.float32)
        for start in range(0, len(frames), _BLOCK):  # or an hour would take gigabytes
            power = np.abs(np.fft.rfft(frames[start : start + _BLOCK] * window)) ** 2
            bands[:, start : start + _BLOCK] = np.log10(np.maximum(power @ filters, 1e-10)).T
        return (np.maximum(bands, bands.max() - np.float32(8.0)) + np.float32(4.0)) / np.float32(4.0)


def frame_count(config: Mapping[str, Any], samples: int) -> int:
    """How many frames the convolutions of a model with this config.json make of so many samples."""
    for kernel, stride in zip(config["conv_kernel"], config["conv_stride"]):
        samples = (samples - kernel) // stride + 1
    return max(0, samples)


def samples_for(config: Mapping[str, Any], frames: int) -> int:
    """The fewest samples of which they make so many frames."""
    for kernel, stride in zip(reversed(config["conv_kernel"]), reversed(config["conv_stride"])):
        frames = (frames - 1) * stride + kernel
    return frames


def hears(folder: Path) -> bool:
    """Whether the model in `folder` reads audio, by the settings beside it."""
    if not ((folder / FILE).exists() or (folder / PROCESSOR).exists()):
        return False
    try:
        SoundEncoder(folder)
    except CheckpointError:
        return False
    return True


def _settings(folder: Path) -> dict[str, Any]:
    if (folder / PROCESSOR).exists():
        whole = read_json(folder / PROCESSOR, CheckpointError).get("feature_extractor")
        if isinstance(whole, dict):
            return {name: value for name, value in whole.items() if value is not None}
    if not (folder / FILE).exists():
        raise CheckpointError(
            f"Expected {FILE} in {str(folder)!r}; it is missing.",
            hint="Save it there: AutoFeatureExtractor.from_pretrained(NAME).save_pretrained(FOLDER).",
        )
    stated = read_json(folder / FILE, CheckpointError)
    return {name: value for name, value in stated.items() if value is not None}


def _kind(stated: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    name = stated.get("feature_extractor_type")
    convolves = isinstance(config.get("conv_kernel"), list) and "conv_stride" in config
    if name is None and convolves:
        return "Wav2Vec2"
    kind = str(name or _BY_MODEL.get(str(config.get("model_type")), "")).removesuffix("FeatureExtractor")
    if kind not in _DEFAULTS or (kind == "Wav2Vec2" and not convolves):
        raise CheckpointError(
            f"Expected feature_extractor_type to be one of {', '.join(_DEFAULTS)}FeatureExtractor, and a "
            f"model for it, received {name!r} for a {config.get('model_type')}.",
            hint="Take a checkpoint with one of these: what others do to a sound, optkit does not do.",
        )
    return kind


def _frames(values: np.ndarray, size: int, hop: int) -> np.ndarray:
    """(frames, size): the windows that lie whole in (samples,)."""
    return np.lib.stride_tricks.sliding_window_view(values, size)[::hop]


def _triangles(frequencies: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(frequencies, bands): each band rises from an edge to the next, and falls to the one behind it."""
    slopes = edges[None] - frequencies[:, None]
    widths = np.diff(edges)
    return np.maximum(0.0, np.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]))


def _slaney_mel(hertz: float) -> float:
    return 3.0 * hertz / 200.0 if hertz < 1000.0 else 15.0 + np.log(hertz / 1000.0) * 27.0 / np.log(6.4)


def _slaney_hertz(mels: np.ndarray) -> np.ndarray:
    return np.where(mels < 15.0, 200.0 * mels / 3.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mels - 15.0)))
