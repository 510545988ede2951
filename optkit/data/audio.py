"""Audio: files and clips as samples of one channel, at the rate that a model takes.

Files are read in blocks and resampled as they are read, so that nothing is decoded beyond the limits below
and no more is held than the samples that are asked for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from optkit.core.reading import check_regular
from optkit.data import class_folders
from optkit.errors import DataError, MissingDependency

if TYPE_CHECKING:
    import datasets


#: Endings of files that are read as audio.
ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".mp3")
#: What libsndfile calls these; it knows more, which are refused.
FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "MPEG")
#: Column names that may hold audio: a path, bytes, or what the `datasets` library decodes.
COLUMNS = ("audio", "file_name", "audio_path", "path", "file", "speech")
#: Rates in samples a second, channels and seconds that are taken.
RATES, MOST_CHANNELS, MOST_SECONDS = (4_000, 384_000), 16, 3600
#: A sample of a file in whole numbers lies between -1 and 1; this far beyond it there is no sound.
LOUDEST = 1e4
#: Samples of each channel that are read at once.
_BLOCK = 2**16
#: Samples by which the length of an MP3 file may be off: one frame.
_MP3_FRAME = 1152
#: libsndfile of a WAV file that is shorter than it says; one that was streamed says more than any file has.
_CUT_OFF = re.compile(r"^ *(?:data|Riff size) : (\d+) \(should be (\d+)\)", re.MULTILINE)
_STREAMED = 2**31 - 2**16
#: What libsndfile says of a length that a streamed FLAC file does not hold is beyond this.
_UNKNOWN = 2**62


def samples(item: Any, rate: int, position: int = 0) -> np.ndarray:
    """The samples of `item`, (samples,) float32, of all channels' mean, at `rate` samples a second.

    `item` is a path, the bytes of a file, both by name, an array (samples,) that has that rate already, or
    {"array": ..., "sampling_rate": ...} with (samples,) or (channels, samples). Raises DataError, which names
    the item's `position`, for anything else, and for audio that is broken, empty, or beyond the limits.
    """
    if isinstance(item, dict) and "sampling_rate" in item:
        array = item.get("array", item.get("raw"))
        return _from_array(np.asarray(array), item["sampling_rate"], rate, position)
    if isinstance(item, dict):  # undecoded Audio of `datasets`
        item = item.get("bytes") or item.get("path")
    if isinstance(item, np.ndarray):
        return _from_array(item, rate, rate, position)
    if not isinstance(item, str | Path | bytes):
        _refuse(f"a path, bytes or samples as audio at position {position}", type(item).__name__)
    return np.concatenate([np.empty(0, np.float32), *blocks(item, rate, position)])


def blocks(item: str | Path | bytes, rate: int, position: int = 0) -> Iterator[np.ndarray]:
    """The same of a file, piece by piece. Raises as `samples` does, where a limit is passed meanwhile."""
    name = f"the audio at position {position}" if isinstance(item, bytes) else f"{str(item)!r}"
    soundfile, soxr = _libraries()
    with _stream(item) as stream:
        try:
            file = soundfile.SoundFile(stream)
        except (soundfile.SoundFileError, TypeError, ValueError) as reason:
            raise DataError(
                f"Expected audio (WAV, FLAC, OGG, MP3) at position {position}, received what cannot be read "
                f"as that{'' if isinstance(item, bytes) else f': {name}'}.",
                hint="Convert it first, such as with ffmpeg -i IN OUT.wav.",
            ) from reason
        with file:
            if file.format not in FORMATS:
                _refuse(f"WAV, FLAC, OGG or MP3 in {name}", str(file.format))
            _check(file.samplerate, file.channels, name)
            _refuse_cut_off(file.extra_info, name)
            resample = _resampler(soxr, file.samplerate, rate)
            read = 0
            while True:
                try:
                    block = file.read(_BLOCK, dtype="float32", always_2d=True)
                except soundfile.SoundFileError as reason:
                    raise DataError(f"{name[:1].upper()}{name[1:]} is broken: {reason}") from reason
                read += len(block)
                if read > MOST_SECONDS * file.samplerate:
                    _refuse(f"at most {MOST_SECONDS} seconds in {name}", "more")
                last = len(block) < _BLOCK
                yield resample(_mono(block, name), last)
                if last:
                    break
            if _MP3_FRAME < file.frames - read < _UNKNOWN:
                _refuse(f"the {file.frames:,} samples that {name} says it has", f"{read:,}: it is cut off")
    if not read:
        _refuse(f"samples in {name}", "none")


def wav(values: np.ndarray, rate: int) -> bytes:
    """A WAV file of `values`, (samples,) between -1 and 1, in 16 bits."""
    soundfile, _ = _libraries()
    file = io.BytesIO()
    soundfile.write(file, values, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def find(folder: Path) -> dict[str, list[Path]]:
    """Split → its folder of class folders; or, as `all`, the table of a folder that holds files and
    metadata.csv (.jsonl, .parquet), as the `datasets` library has it. {} where there is neither."""
    tables = [
        file for ending in ("csv", "jsonl", "parquet") if (file := folder / f"metadata.{ending}").is_file()
    ]
    return {"all": tables[:1]} if tables else class_folders.find(folder, ENDINGS)


def lies_in(files: list[Path]) -> bool:
    """Whether a split that a data set has found is a folder of class folders of audio."""
    return files[0].is_dir() and bool(class_folders.find(files[0], ENDINGS))


def clip(seed: int, rate: int, seconds: float | None = None) -> np.ndarray:
    """A made sound, (samples,) float32: a tone with overtones that glides and swells, some noise, a pause."""
    random = np.random.default_rng(seed)
    long = random.uniform(0.3, 1.5) if seconds is None else seconds
    time = np.arange(int(long * rate)) / rate
    low, high = random.uniform(80, 800, 2)
    phase = 2 * np.pi * np.cumsum(low + (high - low) * time / long) / rate
    tone = sum(np.sin(phase * k) / k for k in range(1, random.integers(2, 6)))
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * time * random.uniform(1, 8))
    noise = random.normal(0, random.uniform(0.005, 0.2), len(time))
    pause = (time < long * 0.6) | (time > long * random.uniform(0.6, 0.8))
    return (random.uniform(0.05, 0.3) * (tone * swell * pause + noise)).astype(np.float32).clip(-1, 1)


def playable(rows: datasets.Dataset, name: str) -> list[Any]:
    """Column `name` of `rows` as paths or bytes of files: what was decoded becomes a WAV file again."""
    files = []
    for item in rows[name]:
        if isinstance(item, dict) and item.get("array") is not None:
            item = wav(_from_array(np.asarray(item["array"]), r := item["sampling_rate"], r, 0), r)
        elif isinstance(item, dict):
            item = item.get("bytes") or item.get("path")
        files.append(item)
    return files


def _from_array(array: np.ndarray, rate: Any, wanted: int, position: int) -> np.ndarray:
    name = f"the audio at position {position}"
    if array.dtype.kind not in "fi" or array.ndim not in (1, 2) or not isinstance(rate, int):
        _refuse(
            "samples as an array (samples,) or (channels, samples), floats or signed whole numbers, at "
            f"position {position}",
            repr(array)[:60],
        )
    if array.dtype.kind != "f":
        array = array / -float(np.iinfo(array.dtype).min)
    by_channel = array.T if array.ndim == 2 else array[:, None]
    _check(rate, by_channel.shape[1], name)
    if not len(by_channel):
        _refuse(f"samples in {name}", "none")
    if len(by_channel) > MOST_SECONDS * rate:
        _refuse(f"at most {MOST_SECONDS} seconds in {name}", f"{len(by_channel) / rate:.0f}")
    return _resampler(_libraries()[1], rate, wanted)(_mono(by_channel.astype(np.float32), name), True)


def _resampler(soxr: Any, rate: int, wanted: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    """A function of (block, whether it is the last): the samples at the rate `wanted` that are ready then."""
    if rate == wanted:
        return lambda block, last: block
    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    return lambda block, last: stream.resample_chunk(block, last=last)


def _mono(block: np.ndarray, name: str) -> np.ndarray:
    largest = float(np.abs(block).max(initial=0.0))
    if not largest <= LOUDEST:  # NaN is not, either
        _refuse(f"samples between -1 and 1 in {name}", f"{largest:g}")
    return block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)


def _refuse_cut_off(log: str, name: str) -> None:
    for stated, there in _CUT_OFF.findall(log):
        if int(there) < int(stated) < _STREAMED:
            _refuse(
                f"{int(stated):,} bytes of samples in {name}, as it says", f"{int(there):,}: it is cut off"
            )


def _check(rate: int, channels: int, name: str) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        _refuse(f"{RATES[0]:,} to {RATES[1]:,} samples a second in {name}", f"{rate:,}")
    if not 1 <= channels <= MOST_CHANNELS:
        _refuse(f"1 to {MOST_CHANNELS} channels in {name}", str(channels))


@contextmanager
def _stream(item: str | Path | bytes) -> Iterator[io.BytesIO | io.BufferedReader]:
    if isinstance(item, bytes):
        yield io.BytesIO(item)
        return
    try:
        check_regular(Path(item).stat(), Path(item), DataError)
        with Path(item).open("rb") as stream:
            yield stream
    except (OSError, ValueError) as reason:
        said = getattr(reason, "strerror", None) or reason
        raise DataError(f"Cannot read {str(item)[:200]!r}: {said}.") from reason


def _refuse(expected: str, received: str) -> NoReturn:
    raise DataError(f"Expected {expected}, received {received}.")


def _libraries() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except ImportError as reason:
        raise MissingDependency.of(str(reason.name), "audio") from reason
    return soundfile, soxr
