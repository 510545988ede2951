"""Text generation with a cache: optkit's graphs in ONNX Runtime beside transformers' `generate` in torch.

Run: python benchmarks/generation.py train DATA     a small GPT-2, from nothing, on DATA's contexts (SQuAD)
     python benchmarks/generation.py score          its perplexity, fp32 and INT8, on all validation contexts
     python benchmarks/generation.py speed          both sizes below, ROUNDS fresh processes each, in turn
The last two write their half of benchmarks/results/generation.json. Sizes: `small`, the model trained here
(4 layers of 192, 4,096 byte-pair tokens), and `gpt2`, the shape of GPT-2 (12 layers of 768, 50,257 tokens)
with random weights, which a clock cannot tell from trained ones. Prompts of 32 tokens, 24 tokens behind
each, greedy, 2 threads; nothing ends early. Tokenizing is no part of any time.

Prediction, written before the run. Perplexity: INT8 costs 1 to 3%. Batch 1, tokens per second against
transformers: `small` 5 to 8 times in fp32 and little more in INT8, as most of the time there is
transformers' own Python; `gpt2` 1.2 to 1.5 times in fp32 and 3 times in INT8, as every token reads all
weights. Time to first token: 1.3 times in fp32 and 2 times in INT8 for `gpt2`, more for `small`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from optkit.benchmarking.accuracy import paired_drop_of
from optkit.benchmarking.environment import describe
from optkit.core.artifact import Artifact, library_versions

HERE = Path(__file__).parent
MODELS = HERE.parent / "models" / "generation"
RESULT = HERE / "results" / "generation.json"
ROUNDS, REPEATS, THREADS = 4, 2, 2
PROMPT, NEW, BATCHES = 32, 24, (1, 8)
SIZES = {
    "small": {"vocab_size": 4096, "n_embd": 192, "n_layer": 4, "n_head": 6, "n_positions": 256},
    "gpt2": {"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024},
}
KINDS = ("transformers", "onnx-fp32", "onnx-int8")


def train(data: str, epochs: str = "1", texts_used: str = "1000") -> None:
    """The tokenizer and the small model, and the graphs of both sizes. `texts_used` bounds each split."""
    from optkit.training.finetune import FinetuneSettings, finetune

    texts = MODELS / "data"
    texts.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        lines = Path(data, f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        contexts = list(dict.fromkeys(json.loads(line)["context"] for line in lines))
        rows = "".join(json.dumps({"text": text}) + "\n" for text in contexts[: int(texts_used)])
        (texts / f"{split}.jsonl").write_text(rows, encoding="utf-8")
    start = MODELS / "small-start"
    write_model(start, "small", texts / "train.jsonl")
    settings = FinetuneSettings(epochs=float(epochs), batch=16, learning_rate=1e-3, max_length=256)
    made = finetune(start, texts, MODELS / "small", settings, force=True)
    print(made.lineage[-1]["notes"]["history"])
    write_model(MODELS / "gpt2", "gpt2", texts / "train.jsonl")
    for size in SIZES:
        export(size)


def write_model(folder: Path, size: str, texts: Path) -> None:
    """A GPT-2 of random weights, with byte-pair tokens learned from `texts`."""
    import torch
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    end = "<|endoftext|>"
    tokenizer = ByteLevelBPETokenizer()
    documents = (json.loads(line)["text"] for line in texts.read_text(encoding="utf-8").splitlines())
    tokenizer.train_from_iterator(documents, vocab_size=SIZES["small"]["vocab_size"], special_tokens=[end])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token=end)
    torch.manual_seed(0)
    config = transformers.GPT2Config(**SIZES[size], bos_token_id=0, eos_token_id=0)
    transformers.GPT2LMHeadModel(config).save_pretrained(str(folder))
    fast.save_pretrained(str(folder))


def export(size: str) -> None:
    """fp32 and INT8 graphs beside the checkpoint."""
    import shutil

    from optkit.passes.base import apply, make
    from optkit.passes.context import make_context
    from optkit.tasks.base import open_task

    artifact = Artifact.open(MODELS / size)
    context = make_context(open_task(artifact))
    for step, kind in (("export-onnx", "onnx-fp32"), ("quantize-dynamic", "onnx-int8")):
        shutil.rmtree(MODELS / f"{size}-{kind}", ignore_errors=True)
        artifact = apply(make(step, {}), artifact, MODELS / f"{size}-{kind}", context)


def score() -> None:
    """Perplexity of the trained model in torch, in fp32 and in INT8, over every validation context."""
    from optkit.data.dataset import Data
    from optkit.runtimes.base import infer_all, open_session
    from optkit.tasks.base import Columns, open_task

    artifacts = {k: Artifact.open(MODELS / ("small" if k == KINDS[0] else f"small-{k}")) for k in KINDS}
    task = open_task(artifacts[KINDS[0]])
    labelled = task.read(Data(str(MODELS / "data")).split("validation"), Columns())
    answers = {}
    for kind, artifact in artifacts.items():
        with open_session(artifact, threads=THREADS) as session:
            answers[kind] = task.answers(infer_all(session, labelled.encoded, 16, 4096))
    rows = {}
    for kind, found in answers.items():
        drop = paired_drop_of(task.score, answers[KINDS[0]], found, labelled.references)
        rows[kind] = {
            "perplexity": -task.score(found, labelled.references),
            "rise": {"value": drop.drop, "low": drop.low, "high": drop.high},
            "size_bytes": artifacts[kind].size_bytes,
        }
    notes = Artifact.open(MODELS / "small").lineage[-1]["notes"]
    counts = {"texts": len(labelled.references), "tokens": int(sum(labelled.references))}
    save("perplexity", {**counts, "rows": rows, "history": notes["history"], "versions": library_versions()})


def speed() -> None:
    """Fresh processes in turn; ratios to transformers per round, with a t interval of their logs."""
    runs: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind in KINDS:
            command = [sys.executable, __file__, "child", kind]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[kind].append(json.loads(done.stdout.splitlines()[-1]))
            print(kind, runs[kind][-1], file=sys.stderr)
    found = {}
    for size in SIZES:
        mine = {kind: [run[size] for run in runs[kind]] for kind in KINDS}
        found[size] = {"runs": mine, "ratios": {k: ratios(mine[KINDS[0]], mine[k]) for k in KINDS[1:]}}
    save("speed", {"environment": describe(THREADS), "prompt": PROMPT, "new": NEW, "sizes": found})


def ratios(base: list[Any], mine: list[Any]) -> dict[str, dict[str, list[float]]]:
    """Batch → measure → how many times as good as the baseline: value, low, high."""
    found: dict[str, dict[str, list[float]]] = {}
    for batch in map(str, BATCHES):
        for name, sign in (("first_ms", -1), ("per_second", 1)):
            logs = np.array([sign * np.log(b[batch][name] / a[batch][name]) for a, b in zip(base, mine)])
            bounds = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
            values = np.exp([logs.mean(), bounds.low, bounds.high])
            found.setdefault(batch, {})[name] = [round(float(x), 3) for x in values]
    return found


def child(kind: str) -> None:
    """Both sizes, one after the other: the median of REPEATS, behind one run that is not counted."""
    random = np.random.default_rng(0)
    result: dict[str, dict[int, dict[str, float]]] = {}
    for size, shape in SIZES.items():
        run = torch_run(size) if kind == KINDS[0] else onnx_run(f"{size}-{kind}")
        result[size] = {}
        for batch in BATCHES:
            prompts = random.integers(1, shape["vocab_size"], (batch, PROMPT))
            samples = [run(prompts) for _ in range(1 + REPEATS)][1:]
            first, rate = np.median(samples, axis=0)
            result[size][batch] = {"first_ms": round(float(first), 3), "per_second": round(float(rate), 2)}
        del run  # its threads would spin beside the next one's
    print(json.dumps(result))


def onnx_run(name: str) -> Any:
    from optkit.benchmarking.generation import measure
    from optkit.runtimes.base import open_session

    session = open_session(Artifact.open(MODELS / name), threads=THREADS)

    def run(prompts: np.ndarray) -> tuple[float, float]:
        found = measure(session, prompts.tolist(), NEW)
        return found.first_ms, found.per_second

    return run


def torch_run(size: str) -> Any:
    """transformers' `generate`; the time of the first token is that of a call for one token."""
    import time

    import torch

    from optkit.models.checkpoint import load_model

    torch.set_num_threads(THREADS)
    model = load_model(MODELS / size)
    model.generation_config.eos_token_id = None

    def seconds(prompts: Any, new: int) -> float:
        begun = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=new,
                do_sample=False,
                pad_token_id=0,
            )
        assert out.shape[1] == prompts.shape[1] + new
        return time.perf_counter() - begun

    def run(prompts: np.ndarray) -> tuple[float, float]:
        tensor = torch.from_numpy(prompts)
        first, whole = seconds(tensor, 1), seconds(tensor, NEW)
        return 1000 * first, len(prompts) * (NEW - 1) / (whole - first)

    return run


def save(part: str, value: dict[str, Any]) -> None:
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    result[part] = value
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    short = {k: v for k, v in value.items() if k not in ("environment", "versions", "sizes")}
    short |= {size: found["ratios"] for size, found in value.get("sizes", {}).items()}
    print(json.dumps(short, indent=1))


if __name__ == "__main__":
    {"train": train, "score": score, "speed": speed, "child": child}[sys.argv[1]](*sys.argv[2:])
