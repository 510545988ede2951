"""A language model in OpenVINO, weights in 8 and 4 bits: quality beside transformers, speed beside peers.

Run: python benchmarks/language_models.py CHECKPOINT TEXTS WORK make     the artifacts of KINDS, in WORK
     python benchmarks/language_models.py CHECKPOINT TEXTS WORK quality [DOCUMENTS]
     python benchmarks/language_models.py CHECKPOINT TEXTS WORK speed [GENAI]
TEXTS is a folder of train.jsonl and validation.jsonl with a column `text`. The last two write their half of
benchmarks/results/language_models.json. GENAI is a folder that openvino_genai and openvino_tokenizers are
installed in (pip install --target), where they are to be timed too: on the same artifacts.

Quality: perplexity of held-out documents (the first 256 tokens) against transformers in fp32, its ratio
with a bootstrap over documents; greedy texts of 32 tokens behind prompts of 32: share that is the same to
the last token, and the mean place of the first that differs; KL divergence per token from fp32 on the first 8
documents. Speed: fresh processes in turn, 2 threads, 64 tokens behind a prompt of 32, batch 1; the share of
the memory's bound is bytes of weights read per token, over the bandwidth measured by plain copies.

Prediction, written before the run (Gemma 3 270M, whose weights come from a 4-bit file): perplexity +.5% in
INT8 and +5% in INT4, +3% where it is fitted; four times transformers' tokens per second in INT8.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from serve import ratio

from optkit.benchmarking.environment import describe
from optkit.benchmarking.roofline import probe
from optkit.core.artifact import Artifact, library_versions

RESULT = Path(__file__).parent / "results" / "language_models.json"
KINDS: dict[str, dict[str, Any]] = {
    "fp32": {"weights": "fp32"},
    "int8": {},
    "int4": {"weights": "int4"},
    "int4-fitted": {"weights": "int4", "group": 32, "awq": True, "scale_estimation": True},
}
BASE, TOKENS, PROMPT, NEW, CLOSE, THREADS, ROUNDS = "transformers", 256, 32, 32, 8, 2, 5


def make_all(checkpoint: Path, texts: Path, work: Path) -> None:
    from optkit.data.dataset import Data
    from optkit.models.checkpoint import fetch
    from optkit.passes.base import apply, make
    from optkit.passes.context import make_context
    from optkit.tasks.base import open_task

    source = fetch(checkpoint)
    context = make_context(open_task(source), Data(str(texts)))
    for kind, parameters in KINDS.items():
        shutil.rmtree(work / kind, ignore_errors=True)
        apply(make("open-vino-stateful", parameters), source, work / kind, context)


def quality(checkpoint: Path, texts: Path, work: Path, documents: str = "60") -> None:
    kinds = [BASE, *KINDS]
    found = {kind: child("answers", checkpoint, texts, work, kind, documents) for kind in kinds}
    right, random = found[BASE], np.random.default_rng(0)
    counts = np.array(right["counts"])
    draws = random.integers(0, len(counts), (5000, len(counts)))
    rows = {}
    for kind in kinds:
        each = np.array(found[kind]["nll"]) - np.array(right["nll"])
        rise = np.exp(each[draws].sum(1) / counts[draws].sum(1)) - 1
        pairs = list(zip(right["written"], found[kind]["written"]))
        first = [next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), NEW) for a, b in pairs]
        rows[kind] = {
            "perplexity": float(np.exp(np.sum(found[kind]["nll"]) / counts.sum())),
            "rise": {
                "value": float(np.exp(each.sum() / counts.sum()) - 1),
                "low": float(np.quantile(rise, 0.025)),
                "high": float(np.quantile(rise, 0.975)),
            },
            "same_texts": float(np.mean([a == b for a, b in pairs])),
            "first_difference": float(np.mean(first)),
            "kl_per_token": found[kind]["kl"],
            "size_bytes": Artifact.open(checkpoint if kind == BASE else work / kind).size_bytes,
        }
        print(kind, rows[kind])
    save("quality", {"documents": len(counts), "tokens": int(counts.sum()), "rows": rows})


def answers(checkpoint: str, texts: str, work: str, kind: str, documents: str) -> dict[str, Any]:
    """Of one kind: nats and tokens of each document, tokens written, the divergence from what `BASE` left."""
    from optkit.runtimes.base import open_session
    from optkit.tasks.base import open_task

    source = Artifact.open(checkpoint)
    lines = Path(texts, "validation.jsonl").read_text(encoding="utf-8").splitlines()[: int(documents)]
    ids = [row[:TOKENS] for row in open_task(source).encoder.whole([json.loads(x)["text"] for x in lines])]
    ids = [row for row in ids if len(row) > PROMPT]
    nll, written, apart = [], [], []
    if kind == BASE:
        logits_of, write = in_transformers(checkpoint)
    else:
        session = open_session(Artifact.open(Path(work, kind)), threads=THREADS)

        def logits_of(row: list[int]) -> np.ndarray:
            tokens = np.array([row])
            return session.infer({"input_ids": tokens, "attention_mask": np.ones_like(tokens)})["logits"][0]

        def write(row: list[int]) -> list[int]:
            return greedy(session.decoder(), row, NEW)

    for i, row in enumerate(ids):
        logits = logits_of(row)[:-1]
        logits = logits - logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        nll.append(-float(logits[np.arange(len(row) - 1), row[1:]].sum(dtype=np.float64)))
        written.append(write(row[:PROMPT]))
        file = Path(work, f"{i}.npy")
        if i < CLOSE and kind == BASE:
            np.save(file, logits)
        elif i < CLOSE:
            right = np.load(file)
            apart.append(float((np.exp(right) * (right - logits)).sum(-1).mean()))
    kl = float(np.mean(apart)) if apart else 0.0
    return {"nll": nll, "counts": [len(row) - 1 for row in ids], "written": written, "kl": kl}


def in_transformers(checkpoint: str) -> Any:
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()

    def logits_of(row: list[int]) -> np.ndarray:
        with torch.no_grad():
            return model(input_ids=torch.tensor([row])).logits[0].numpy()

    def write(row: list[int], new: int = NEW) -> list[int]:
        ids = torch.tensor([row])
        written = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, eos_token_id=[]
        )
        return written[0, len(row) :].tolist()

    return logits_of, write


def greedy(decoder: Any, row: list[int], new: int) -> list[int]:
    written, tokens = [], np.array([row])
    for read in range(len(row), len(row) + new):
        token = int(decoder.step(tokens, np.ones((1, read), dtype=np.int64))[0].argmax())
        written.append(token)
        tokens = np.array([[token]])
    return written


def speed(checkpoint: Path, texts: Path, work: Path, genai: str = "") -> None:
    kinds = [BASE, *KINDS, *(f"genai-{kind}" for kind in KINDS if genai)]
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind in kinds:
            runs[kind].append(child("timed", checkpoint, texts, work, kind, genai or "-"))
            print(kind, runs[kind][-1])
    bandwidth, rows = probe(THREADS).bandwidth, {}
    for kind in kinds:
        rates = [run["per_second"] for run in runs[kind]]
        read = Artifact.open(checkpoint if kind == BASE else work / kind.removeprefix("genai-")).size_bytes
        rows[kind] = {
            "runs": runs[kind],
            "median_per_second": float(np.median(rates)),
            "median_first_ms": float(np.median([run["first_ms"] for run in runs[kind]])),
            "share_of_bound": float(np.median(rates)) * read / bandwidth,
            "over_transformers": ratio(rates, [run["per_second"] for run in runs[BASE]])
            if kind != BASE
            else None,
        }
        if f"genai-{kind}" in runs:
            rows[kind]["over_genai"] = ratio(rates, [run["per_second"] for run in runs[f"genai-{kind}"]])
    save("speed", {"environment": describe(THREADS), "bandwidth": bandwidth, "rows": rows})


def timed(checkpoint: str, texts: str, work: str, kind: str, genai: str) -> dict[str, float]:
    """Milliseconds to the first token, and tokens a second behind it: the best of three texts."""
    from optkit.tasks.base import open_task

    new = 64
    line = Path(texts, "validation.jsonl").read_text(encoding="utf-8").splitlines()[0]
    row = open_task(Artifact.open(checkpoint)).encoder.whole([json.loads(line)["text"]])[0][:PROMPT]
    if kind == BASE:
        _, write = in_transformers(checkpoint)
    elif kind.startswith("genai-"):
        write = in_genai(Path(work, kind.removeprefix("genai-")), genai)
    else:
        from optkit.runtimes.base import open_session

        session = open_session(Artifact.open(Path(work, kind)), threads=THREADS)

        def write(row: list[int], new: int) -> list[int]:
            return greedy(session.decoder(), row, new)

    results = []
    for _ in range(4):
        begun = time.perf_counter()
        write(row, 1)
        first = time.perf_counter() - begun
        begun = time.perf_counter()
        assert len(write(row, new)) == new
        rest = time.perf_counter() - begun - first
        results.append({"first_ms": 1000 * first, "per_second": (new - 1) / rest})
    return max(results[1:], key=lambda result: result["per_second"])


def in_genai(folder: Path, packages: str) -> Any:
    """openvino-genai on the same model, with what it stores as the manifest says; tokens in, tokens out."""
    sys.path.insert(0, packages)
    import openvino
    import openvino_genai

    options = Artifact.open(folder).manifest["runtime"]["options"]
    group = 32 if options["activations"] == "int8" else 0
    settings = {"KV_CACHE_PRECISION": options["kv_cache"], "DYNAMIC_QUANTIZATION_GROUP_SIZE": group}
    pipeline = openvino_genai.LLMPipeline(
        *(str(folder), openvino_genai.Tokenizer(str(tokenizer_of(folder, packages))), "CPU"),
        INFERENCE_PRECISION_HINT="f32",
        INFERENCE_NUM_THREADS=THREADS,
        ATTENTION_BACKEND="SDPA",
        **settings,
    )

    def write(row: list[int], new: int) -> list[int]:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = new, False, True
        ids = openvino.Tensor(np.array([row]))
        given = openvino_genai.TokenizedInputs(ids, openvino.Tensor(np.ones((1, len(row)), dtype=np.int64)))
        return list(pipeline.generate(given, config).tokens[0])

    return write


def tokenizer_of(folder: Path, packages: str) -> Path:
    """A folder beside `folder` with the tokenizer as openvino-genai reads it."""
    beside = folder.parent / "tokenizer"
    if not beside.exists():
        import openvino
        import openvino_tokenizers
        from transformers import AutoTokenizer

        both = openvino_tokenizers.convert_tokenizer(
            AutoTokenizer.from_pretrained(folder), with_detokenizer=True
        )
        beside.mkdir()
        for model, name in zip(both, ("openvino_tokenizer.xml", "openvino_detokenizer.xml")):
            openvino.save_model(model, str(beside / name))
    return beside


def child(name: str, *arguments: object) -> Any:
    command = [sys.executable, __file__, "child", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def save(part: str, value: dict[str, Any]) -> None:
    whole = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    whole[part] = {**value, "versions": library_versions()}
    RESULT.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "child":
        print(json.dumps({"answers": answers, "timed": timed}[sys.argv[2]](*sys.argv[3:])))
    else:
        folders, (part, *rest) = map(Path, sys.argv[1:4]), sys.argv[4:]
        {"make": make_all, "quality": quality, "speed": speed}[part](*folders, *rest)
