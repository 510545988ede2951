"""A small T5 that writes titles: trained, compressed by each half, timed beside transformers' generate.

Run: python benchmarks/seq2seq.py train DATA [EPOCHS]   a T5 from nothing: SQuAD's contexts → their titles
     python benchmarks/seq2seq.py compress [ROUNDS]     INT8 of the encoder, the decoder and both, one report
     python benchmarks/seq2seq.py tokens [ROUNDS]       time to the first token and per token, in turn
     python benchmarks/seq2seq.py families              every family, tiny and random: the texts of its graphs
The last three write their part of benchmarks/results/seq2seq.json. Held out are contexts, not articles: a
title is one that the model has seen, so ROUGE says what INT8 costs and nothing of how well titles are
written. T5: 2 + 2 layers of 128, 4,000 pieces. All in 2 threads; the harness times the rows side by side.

Prediction, written before the run: INT8 loses less than .01 of ROUGE-L; at 1×128 and 32 tokens written ONNX
Runtime is 4 to 8 times as fast as transformers in fp32, as most of the time there is Python, and INT8 adds
little at this size.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
MODELS = HERE.parent / "models" / "seq2seq"
RESULT = HERE / "results" / "seq2seq.json"
THREADS, HELD_OUT, TOKENS, NEW = 2, 300, 128, 32
KINDS = {"transformers": "t5", "onnx-fp32": "t5-onnx", "onnx-int8": "t5-int8"}


def train(data: str, epochs: str = "6") -> None:
    """Tokenizer, model and data."""
    from optkit.training.finetune import FinetuneSettings, finetune

    texts = MODELS / "data"
    texts.mkdir(parents=True, exist_ok=True)
    titles: dict[str, str] = {}
    for split in ("train", "validation"):
        for line in Path(data, f"{split}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            titles.setdefault(row["context"], row["title"].replace("_", " "))
    rows = [{"document": context, "summary": title} for context, title in titles.items()]
    random.Random(0).shuffle(rows)
    for split, part in (("validation", rows[:HELD_OUT]), ("train", rows[HELD_OUT:])):
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (texts / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    write_model(MODELS / "start", rows[HELD_OUT:])
    settings = FinetuneSettings(epochs=float(epochs), batch=16, learning_rate=2e-3, max_length=TOKENS)
    made = finetune(MODELS / "start", texts, MODELS / "t5", settings, force=True, task="text2text")
    print(made.lineage[-1]["notes"]["history"])


def write_model(folder: Path, rows: list[dict[str, str]]) -> None:
    """A T5 of random weights, with unigram pieces learned from the rows."""
    import torch
    import transformers
    from tokenizers import SentencePieceUnigramTokenizer
    from tokenizers.processors import TemplateProcessing

    special = ["<pad>", "</s>", "<unk>"]
    tokenizer = SentencePieceUnigramTokenizer()
    documents = (row[part] for row in rows for part in ("document", "summary"))
    tokenizer.train_from_iterator(documents, vocab_size=4000, special_tokens=special, unk_token="<unk>")
    inner = tokenizer._tokenizer
    inner.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=TOKENS,
    )
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=4000, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=0, eos_token_id=1, pad_token_id=0, max_length=24
    )
    model.save_pretrained(str(folder))
    fast.save_pretrained(str(folder))


def compress(rounds: str = "4") -> None:
    """The report of encoder, decoder and both in INT8, and the artifacts that `tokens` times."""
    import optkit
    from optkit.compression.steps import AnyOf
    from optkit.passes.base import make

    halves = AnyOf(
        tuple((make("quantize-dynamic", {"half": half}),) for half in ("encoder", "decoder", "both"))
    )
    recipe = optkit.Recipe.of([make("export-onnx", {}), halves], optkit.Gate())
    report = optkit.compress(
        *(MODELS / "t5", recipe),
        data=MODELS / "data",
        out=MODELS / "t5-chosen",
        shapes=("1xdata", "1x128"),
        threads=THREADS,
        rounds=int(rounds),
        force=True,
        keep_steps=True,
    )
    save("compress", report.to_dict())


def tokens(rounds: str = "4") -> None:
    """Fresh processes in turn."""
    from optkit.benchmarking.environment import describe
    from optkit.core.artifact import Artifact
    from optkit.passes.base import apply, make
    from optkit.passes.context import make_context
    from optkit.tasks.base import open_task

    artifact = Artifact.open(MODELS / "t5")
    context = make_context(open_task(artifact))
    for step, kind in (("export-onnx", "onnx-fp32"), ("quantize-dynamic", "onnx-int8")):
        if not (MODELS / KINDS[kind]).exists():
            apply(make(step, {}), artifact, MODELS / KINDS[kind], context)
        artifact = Artifact.open(MODELS / KINDS[kind])
    runs: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for _ in range(int(rounds)):
        for kind in KINDS:
            command = [sys.executable, __file__, "child", kind]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[kind].append(json.loads(done.stdout.splitlines()[-1]))
            print(kind, runs[kind][-1], file=sys.stderr)
    save("tokens", {"environment": describe(THREADS), "source_tokens": TOKENS, "written": NEW, "runs": runs})


def child(kind: str) -> None:
    """Batch → milliseconds to the first token (the source read, too) and per token behind it, medians."""
    from optkit.core.artifact import Artifact
    from optkit.runtimes.base import open_session
    from optkit.runtimes.search import greedy
    from optkit.runtimes.seq2seq import Seq2SeqSession

    found = {}
    with open_session(Artifact.open(MODELS / KINDS[kind]), threads=THREADS) as session:
        assert isinstance(session, Seq2SeqSession)
        settings, ids = session.settings.exactly(NEW), np.random.default_rng(0)
        for batch in (1, 8):
            source = ids.integers(3, 4000, (batch, TOKENS))
            feeds = {"input_ids": source, "attention_mask": np.ones_like(source)}
            taken = []
            for _ in range(6):
                begun = time.perf_counter()
                steps = greedy(session.writer(feeds), batch, settings)
                next(steps)
                first = time.perf_counter()
                behind = sum(1 for _ in steps)
                taken.append((1000 * (first - begun), 1000 * (time.perf_counter() - first) / behind))
            first_ms, token_ms = np.median(taken[1:], axis=0)
            found[str(batch)] = {"first_ms": round(float(first_ms), 3), "token_ms": round(float(token_ms), 3)}
    print(json.dumps(found))


def families() -> None:
    """Family → how far its graphs are from torch, and the lengths of texts that were `generate`'s to a token,
    greedy and with four beams; an error where one is not."""
    import tempfile

    from optkit.core.artifact import Artifact
    from optkit.passes.base import apply, make
    from optkit.passes.context import make_context
    from optkit.runtimes.base import open_session
    from optkit.tasks.base import open_task

    sys.path.insert(0, str(HERE.parent))
    from tests.seq2seq import FAMILIES, checkpoint, lengths_of_same_texts

    rows = {}
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            source = Artifact.open(checkpoint(family, Path(folder, "checkpoint")))
            context = make_context(open_task(source))
            made = apply(make("export-onnx", {}), source, Path(folder, "onnx"), context)
            with open_session(made) as session:
                equal = {b: sorted(lengths_of_same_texts(session, source.path, b)) for b in (1, 4)}
            difference = made.lineage[-1]["notes"]["max_difference"]
            rows[family] = {"max_difference": difference, "lengths_of_equal_texts": equal}
            print(family, rows[family])
    save("families", rows)


def save(part: str, value: dict[str, Any]) -> None:
    whole = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    text = json.dumps({**whole, part: value}, indent=1, ensure_ascii=False).replace(f"{HERE.parent}/", "")
    RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    {"train": train, "compress": compress, "tokens": tokens, "child": child, "families": families}[
        sys.argv[1]
    ](*sys.argv[2:])
