"""A small Whisper that writes down spoken digits of espeak-ng: before and after INT8, beside transformers.

Run: python benchmarks/whisper.py [EPOCHS]
Writes benchmarks/results/whisper.json; some minutes on one core. Needs espeak-ng (a Debian package), which
speaks with several voices, speeds and pitches; noise is added. Nothing that is spoken is kept.

The model has the parts of OpenAI's, of a smaller size: windows of 3 seconds, 3 layers of 96 that read and 2
that write, random weights at first. It learns to write one to three digits, is compressed as `optkit compress
--int8` does it, and scored on other sentences of the same voices: scores say what INT8 costs, nothing of
how a Whisper hears people. Then transformers' pipeline, greedy as generation_config.json says, and
the artifact write the same files, each in a process of its own, in turns: the ratio is from file to text.
Last, both write a long recording whole, which gives the texts, the times and the memory.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.speech import RATE, SIZES, WORDS, compressed, speak, spoken  # noqa: E402

FILE = ROOT / "benchmarks" / "results" / "whisper.json"
#: Seconds of a window, visits of each in the comparison with the pipeline, and the files answered in each.
WINDOW_S, ROUNDS, FILES = 3, 12, 12
#: Recordings to learn from.
TRAIN = 960
#: Words of the long recording.
LONG = 240
SPECIAL = [
    *("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>"),
    *("<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
]


def main(epochs: int = 20) -> None:
    from optkit.benchmarking.environment import describe
    from optkit.training.finetune import FinetuneSettings, finetune

    SIZES["train"] = max(SIZES["train"], TRAIN)
    with tempfile.TemporaryDirectory(prefix="optkit-whisper-") as name:
        folder, begun = Path(name), time.monotonic()
        data = folder / "phrases"
        speak(data, most=3)
        results: dict[str, Any] = {"speaking_s": round(time.monotonic() - begun, 1), "sizes": dict(SIZES)}
        settings = FinetuneSettings(epochs=epochs, batch=16, learning_rate=1e-3, max_length=None)
        tuned = finetune(untrained(folder / "untrained"), data, folder / "tuned", settings)
        results["training_s"] = round(time.monotonic() - begun - results["speaking_s"])
        results |= compressed(tuned.path, data, folder / "int8")
        files = [str(file) for file in sorted(data.glob("test/*.wav"))[:FILES]]
        results["pipeline"] = beside_pipeline(tuned.path, folder / "int8", files, ROUNDS)
        results["long"] = beside_pipeline(tuned.path, folder / "int8", [long_file(folder / "long.wav")], 3)
        results["seconds"] = round(time.monotonic() - begun)
        text = json.dumps({**results, "environment": describe(1)}, indent=1)
        FILE.write_text(text + "\n", encoding="utf-8")
        print(json.dumps({name: results[name] for name in ("pipeline", "long", "seconds")}))


def untrained(folder: Path) -> Path:
    """A Whisper with random weights, for one language, and a tokenizer of bytes and of the ten words."""
    import torch
    import transformers
    from tokenizers import AddedToken, ByteLevelBPETokenizer

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    tokenizer = ByteLevelBPETokenizer()
    words = [f" {word}" for word in WORDS]
    tokenizer.train_from_iterator(words * 50, vocab_size=340, show_progress=False)
    tokenizer.add_special_tokens(SPECIAL)
    places = WINDOW_S * 50
    tokenizer.add_tokens([AddedToken(f"<|{i * 0.02:.2f}|>", normalized=False) for i in range(places + 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), SPECIAL[0])
    stated = {"tokenizer_class": "WhisperTokenizer", **ends, "additional_special_tokens": SPECIAL[1:]}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["<|endoftext|>"])
    tokens["decoder_start_token_id"] = ids["<|startoftranscript|>"]
    config = transformers.WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        **{"d_model": 96, "encoder_layers": 3, "decoder_layers": 2, "num_mel_bins": 40},
        **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "dropout": 0.1},
        **{"encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "max_source_positions": places},
        **{"max_target_positions": 64, "suppress_tokens": None, "begin_suppress_tokens": None, **tokens},
    )
    model = transformers.WhisperForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(
        **{"is_multilingual": True, "language": "en", "task": "transcribe", "max_length": 64, "num_beams": 1},
        **{"lang_to_id": {"<|en|>": ids["<|en|>"]}, "max_initial_timestamp_index": 50},
        task_to_id={name: ids[f"<|{name}|>"] for name in ("translate", "transcribe")},
        **{"no_timestamps_token_id": ids["<|notimestamps|>"], **tokens},
    )
    model.save_pretrained(str(folder))
    transformers.WhisperFeatureExtractor(feature_size=40, chunk_length=WINDOW_S).save_pretrained(str(folder))
    return folder


def long_file(file: Path) -> str:
    """Digits for some minutes."""
    import soundfile

    rng = random.Random(7)
    parts = [spoken(" ".join(rng.choices(WORDS, k=3)), rng) for _ in range(LONG // 3)]
    soundfile.write(file, np.concatenate(parts), RATE)
    return str(file)


def beside_pipeline(checkpoint: Path, artifact: Path, files: list[str], rounds: int) -> dict[str, Any]:
    """Milliseconds from file to text of both, how many times as long the pipeline takes, and the memory."""
    import soundfile

    from optkit.benchmarking.statistics import ratio_interval
    from optkit.core.process import Child

    theirs, ours = list[list[float]](), list[list[float]]()
    with Child("benchmarks.whisper") as pipeline, Child("benchmarks.whisper") as served:
        pipeline.call("load", folder=str(checkpoint), by="transformers")
        served.call("load", folder=str(artifact), by="optkit")
        for number in range(rounds + 1):
            pair = [child.call("answer", files=files) for child in (pipeline, served)]
            if number:  # the first is warm-up
                theirs.append(pair[0]["ms"])
                ours.append(pair[1]["ms"])
    seconds = sum(soundfile.info(file).duration for file in files)
    return {
        "files": len(files),
        "seconds": round(seconds, 1),
        "rounds": rounds,
        "pipeline_ms": float(np.median(theirs)),
        "artifact_ms": float(np.median(ours)),
        "artifact_real_time_factor": round(float(np.sum(np.median(ours, axis=0))) / 1000 / seconds, 5),
        "ratio": asdict(ratio_interval([theirs], [ours])),
        "same_texts": sum(a == b for a, b in zip(pair[0]["texts"], pair[1]["texts"])),
        "peak_rss_bytes": {"pipeline": pair[0]["peak"], "artifact": pair[1]["peak"]},
    }


class Answerer:
    """The process that writes files down, by transformers' pipeline or by optkit."""

    def load(self, folder: str, by: str) -> None:
        if by == "optkit":
            import optkit

            predictor = optkit.load(folder, threads=1)
            self._one = lambda file: predictor.predict_one(file).text
            return
        import soundfile
        import soxr
        import torch
        import transformers

        torch.set_num_threads(1)
        pipeline: Any = transformers.pipeline("automatic-speech-recognition", folder, num_beams=1)

        def one(file: str) -> str:  # the pipeline itself reads files with ffmpeg, a program
            values, rate = soundfile.read(file, dtype="float32")
            values = soxr.resample(values, rate, 16000)
            long = {"return_timestamps": True} if len(values) > WINDOW_S * 16000 else {}
            return str(pipeline(values, **long)["text"]).strip()

        self._one = one

    def answer(self, files: list[str]) -> dict[str, Any]:
        """Milliseconds and text of each."""
        from optkit.benchmarking import memory

        taken, texts = [], []
        for file in files:
            begun = time.perf_counter()
            texts.append(self._one(file))
            taken.append((time.perf_counter() - begun) * 1000)
        return {"ms": taken, "texts": texts, "peak": memory.peak()}


def serve() -> Answerer:
    return Answerer()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
