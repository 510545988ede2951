"""Spoken digits of espeak-ng: which digit it was, and a few digits written down; before and after INT8.

Run: python benchmarks/speech.py [EPOCHS]
Writes benchmarks/results/speech.json; about 8 minutes on one core. Needs espeak-ng (a Debian package), which
speaks with several voices, speeds and pitches; noise is added. Nothing that is spoken is kept.

A small wav2vec 2.0 (3 layers, hidden 96, random weights at first) learns which digit it hears; from there
it learns to write one to three digits down (CTC). Both are compressed as `optkit compress --int8` does it,
scored on a test split with other sentences, and timed beside transformers' model, in turn, a clip at a time.
The voices of test are those of train, so that scores say what INT8 costs, and nothing of how the model would
hear people.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

import optkit
from optkit.benchmarking.environment import describe
from optkit.training.finetune import FinetuneSettings, finetune

FILE = Path(__file__).parent / "results" / "speech.json"
RATE = 8000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOICES = ("en-us", "en-gb", "en-us+f2", "en-us+m3", "en-gb-scotland", "en-us+f4")
SIZES = {"train": 480, "validation": 120, "test": 300}


def main(epochs: int = 14) -> None:
    with tempfile.TemporaryDirectory(prefix="optkit-speech-") as name:
        folder = Path(name)
        begun = time.monotonic()
        digits, phrases = folder / "digits", folder / "phrases"
        speak(digits, most=1)
        speak(phrases, most=3)
        results: dict[str, Any] = {"speaking_s": round(time.monotonic() - begun, 1), "sizes": SIZES}
        source = untrained(folder / "untrained")
        settings = FinetuneSettings(epochs=epochs, batch=16, learning_rate=1e-3, max_length=None)
        heard = finetune(source, digits, folder / "heard", settings, task="audio-classification")
        results["audio-classification"] = compressed(heard.path, digits, folder / "heard-int8")
        write(results)
        again = FinetuneSettings(epochs=1.5 * epochs, batch=16, learning_rate=1e-3, max_length=None)
        task = "automatic-speech-recognition"
        written = finetune(heard.path, phrases, folder / "written", again, task=task)
        results[task] = compressed(written.path, phrases, folder / "written-int8")
        results["seconds"] = round(time.monotonic() - begun)
        write(results)


def write(results: dict[str, Any]) -> None:
    FILE.write_text(json.dumps({**results, "environment": describe(1)}, indent=1) + "\n", encoding="utf-8")


def compressed(tuned: Path, data: Path, out: Path) -> dict[str, Any]:
    """What training and `--int8` came to: a row per model, with the drop's interval and the time's."""
    begun = time.monotonic()
    report = optkit.compress(
        tuned, optkit.Recipe.int8(), data=data, split="test", out=out, threads=1, rounds=6, processes=2
    )
    rows = []
    for row in report.rows:
        latency = [
            {"shape": f"{x.batch}x{x.tokens}", "p50_ms": x.p50_ms, "speedup": _interval(x.speedup)}
            for x in row.latency
        ]
        known = {"name": row.name, "verdict": row.verdict, "reasons": row.reasons, "score": row.score}
        known |= {"drop": _interval(row.drop), "agreement": row.agreement, "size_bytes": row.size_bytes}
        rows.append({**known, "latency": latency})
        print(json.dumps(rows[-1]), flush=True)
    return {
        "metric": report.metric,
        "chosen": report.chosen,
        "rows": rows,
        "doubts": report.doubts,
        "compress_s": round(time.monotonic() - begun),
    }


def _interval(value: Any) -> list[float] | None:
    return None if value is None else [value.value, value.low, value.high]


def speak(folder: Path, most: int) -> None:
    """Files of one to `most` digits, with metadata.csv beside them; of several, none of test is in train."""
    rng, noise = random.Random(most), np.random.default_rng(most)
    for split, count in SIZES.items():
        (folder / split).mkdir(parents=True)
        header = "file_name,label" if most == 1 else "file_name,transcription"
        lines = [header]
        while len(lines) <= count:
            words = rng.choices(WORDS, k=1 if most == 1 else rng.randint(1, most))
            heldout = sum(map(WORDS.index, words)) % 5 == 0
            if most > 1 and len(words) > 1 and heldout != (split == "test"):
                continue
            values = spoken(" ".join(words), rng)
            loud = np.sqrt((values**2).mean()) * 10 ** (-rng.uniform(10, 30) / 20)
            values = (values + noise.normal(0, loud, len(values))).clip(-1, 1)
            soundfile.write(folder / split / f"{len(lines)}.wav", values, RATE)
            lines.append(f"{len(lines)}.wav,{' '.join(words)}")
        (folder / split / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def spoken(text: str, rng: random.Random) -> np.ndarray:
    voice, speed, pitch = rng.choice(VOICES), rng.randint(130, 230), rng.randint(30, 70)
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    wav = subprocess.run(command, capture_output=True, check=True).stdout
    values, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    return np.asarray(soxr.resample(values, rate, RATE))


def untrained(folder: Path) -> Path:
    """A wav2vec 2.0 with random weights for 8,000 samples a second: a frame for each 20 ms."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=256,
        conv_dim=[48, 64, 64, 64],
        conv_kernel=[20, 8, 4, 4],
        conv_stride=[10, 4, 2, 2],
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        classifier_proj_size=96,
        mask_time_prob=0.0,
        layerdrop=0.0,
        **dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout"), 0.0),
        **dict.fromkeys(("feat_proj_dropout", "final_dropout"), 0.0),
    )
    transformers.Wav2Vec2Model(config).save_pretrained(str(folder))
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE).save_pretrained(str(folder))
    return folder


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
