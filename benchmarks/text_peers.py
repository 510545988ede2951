"""optkit's INT8 beside sentence-transformers' ONNX and OpenVINO backends, optimum-onnx and optimum-intel.

    python benchmarks/text_peers.py WORK PHASE... [--tasks embeddings,rerank] [--trial]

Phases: models, make, score, time; each leaves a file per task in WORK, and all are joined in
benchmarks/results/text_peers.json. `time` alone wants a quiet machine: under 2 minutes per task; the others
take 2 to 4 each.

The peers run in environments of their own, since no two of them agree on a version of transformers:

    python -m venv WORK/openvino && WORK/openvino/bin/pip install "sentence-transformers[openvino]==6.2.0" \
        "optimum-intel[openvino]==2.2.0" transformers==5.5.4 datasets nncf==3.4.0 torch==2.13.0
    python -m venv WORK/onnx && WORK/onnx/bin/pip install "sentence-transformers[onnx]==5.7.0" \
        "optimum-onnx[onnxruntime]==0.1.0" torch==2.13.0

Where torch is a build for CPUs alone, the first brings a torchvision for another one: pip uninstall it there.
The second gives transformers 4.57, and sentence-transformers 5.7 is the last that takes it. One model per
task for all of them:

- embeddings: all-MiniLM-L6-v2 as it is; 500 questions of SQuAD among 1,000 paragraphs
- rerank: the same weights, trained on 400 questions with five paragraphs each (`rerank.py`); 100 questions
  with ten each
- sparse-embeddings: `text_models.py`; 250 questions among as many paragraphs
- text2text: the small T5 of `seq2seq.py`, four epochs of titles; 150 paragraphs

Scored are rows that no model was made, chosen or calibrated by. Each peer is made as its documentation says:
dynamic INT8 by the configuration avx512_vnni, static INT8 of OpenVINO calibrated on 300 texts of train.
optkit's is what `compress --int8` chose, gated at 5% of the metric on other rows. Times are from text to
answer, every candidate in a process of its own that stands still while another answers, visits in turn: some
inputs one by one, then a batch in one call.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
HERE = ROOT / "benchmarks"
RESULT = HERE / "results" / "text_peers.json"
SQUAD = ROOT.parent / "shared" / "data" / "squad"
THREADS = 2
#: Visits of each candidate, inputs that are answered one by one in a visit, and those of its batch.
VISITS, ONE, MANY = 12, 10, 32


@dataclass(frozen=True)
class Candidate:
    """`by` answers with `file`, in the `environment` ("" is this one); `tasks` are those that it takes."""

    environment: str
    by: str
    file: str | None
    tasks: tuple[str, ...]


_SENTENCE = ("embeddings", "rerank", "sparse-embeddings")
#: The first is what scores and times are compared with.
CANDIDATES = {
    "torch": Candidate("", "torch", None, (*_SENTENCE, "text2text")),
    "optkit, INT8": Candidate("", "optkit", None, (*_SENTENCE, "text2text")),
    "sentence-transformers, ONNX": Candidate("onnx", "onnx", "onnx/model.onnx", _SENTENCE),
    "sentence-transformers, ONNX, INT8": Candidate(
        "onnx", "onnx", "onnx/model_qint8_avx512_vnni.onnx", _SENTENCE
    ),
    "sentence-transformers, OpenVINO": Candidate(
        "openvino", "openvino", "openvino/openvino_model.xml", _SENTENCE
    ),
    "sentence-transformers, OpenVINO, INT8": Candidate(
        "openvino", "openvino", "openvino/openvino_model_qint8_quantized.xml", _SENTENCE
    ),
    "optimum-onnx": Candidate("onnx", "optimum-onnx", "optimum", ("rerank", "text2text")),
    "optimum-onnx, INT8": Candidate("onnx", "optimum-onnx", "optimum-int8", ("rerank", "text2text")),
    "optimum-intel": Candidate("openvino", "optimum-intel", "intel", ("text2text",)),
    "optimum-intel, INT8 weights": Candidate("openvino", "optimum-intel", "intel-int8", ("text2text",)),
}


class Worker:
    """peers/text_worker.py under the Python of `environment`, spoken to in JSON lines."""

    def __init__(self, work: Path, environment: str) -> None:
        python = str(work / environment / "bin" / "python") if environment else sys.executable
        settings = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        settings |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "NNCF_CI": "1"}
        settings |= {"OMP_NUM_THREADS": str(THREADS), **({} if environment else {"PYTHONPATH": str(ROOT)})}
        log = (work / "log.txt").open("ab")
        self._process = subprocess.Popen(
            [python, str(HERE / "peers" / "text_worker.py")],
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log},
            env=settings,
            text=True,
        )

    def call(self, name: str, **arguments: Any) -> Any:
        """Raises RuntimeError with what went wrong there."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"call": name, **arguments}) + "\n")
        process.stdin.flush()
        reply = json.loads(process.stdout.readline() or '{"error": "The process ended."}')
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["result"]

    def stand_still(self, still: bool) -> None:
        self._process.send_signal(signal.SIGSTOP if still else signal.SIGCONT)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def models(task: str, home: Path, work: Path, trial: bool) -> dict[str, Any]:
    """The checkpoint, its data, and optkit's INT8 of it."""
    import optkit

    share = 0.1 if trial else 1.0
    if (home / "optkit").exists() or not (home / "test.json").exists():  # else compress resumes
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        write = {"embeddings": _embeddings, "rerank": _rerank, "sparse-embeddings": _sparse}
        write.get(task, _titles)(home, share)
    begun = time.monotonic()
    report = optkit.compress(
        home / "model",
        data=home / "data",
        out=home / "optkit",
        int8=True,
        max_drop="99%" if trial else "5%",
        task=task,
        metric="ndcg@10" if task in ("embeddings", "sparse-embeddings") else None,
        shapes=("1xdata",),
        threads=THREADS,
        rounds=1 if trial else 3,
        processes=1,
    )
    texts = home / "texts"
    texts.mkdir(exist_ok=True)
    lines = [json.loads(line) for line in (home / "data" / "train.jsonl").read_text().splitlines()]
    every = (text for row in lines for text in _texts(row))
    (texts / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in every))
    return {"chosen": report.chosen, "seconds": round(time.monotonic() - begun)}


def _texts(row: dict[str, Any]) -> list[str]:
    if "documents" in row:
        return [f"{row['query']} {text}" for text in row["documents"]]
    return [value for value in row.values() if isinstance(value, str)]


def _embeddings(home: Path, share: float) -> None:
    from benchmarks.retrieval import default, read

    shutil.copytree(default(), home / "model")
    questions, owner, paragraphs = read(SQUAD)
    asked = int(500 * share)
    some = list(dict.fromkeys([*owner[:asked].tolist(), *range(len(paragraphs))]))[: 2 * asked]
    test = {
        "queries": questions[:asked],
        "documents": [paragraphs[i] for i in some],
        "right": [some.index(i) for i in owner[:asked].tolist()],
    }
    _pairs(home, share)
    (home / "test.json").write_text(json.dumps(test))


def _pairs(home: Path, share: float) -> None:
    """Questions and paragraphs of SQuAD's training split: to calibrate by and, others, to choose by."""
    from benchmarks import text_models

    lines = {row["context"]: row for row in text_models._lines("squad", "train")}
    drawn = text_models._drawn(list(lines.values()), 250, share)
    rows = [{"query": row["question"], "document": row["context"]} for row in drawn]
    text_models._write(home / "data", train=rows[: len(rows) * 3 // 5], validation=rows[len(rows) * 3 // 5 :])


def _sparse(home: Path, share: float) -> None:
    from benchmarks import text_models

    text_models.sparse(home, home / "drawn", share)
    rows = [json.loads(line) for line in (home / "drawn" / "validation.jsonl").read_text().splitlines()]
    queries, documents = ([row[side] for row in rows] for side in ("query", "document"))
    test = {"queries": queries, "documents": documents, "right": list(range(len(rows)))}
    _pairs(home, share)
    (home / "test.json").write_text(json.dumps(test))


def _rerank(home: Path, share: float) -> None:
    import optkit
    from benchmarks import rerank, retrieval, text_models

    train = rerank.ranked(SQUAD / "train.jsonl", int(460 * share), 4)
    cut = int(400 * share)
    text_models._write(home / "data", train=train[:cut], validation=train[cut:])
    settings = {"epochs": 1, "batch": 32, "max_length": 192}
    optkit.finetune(retrieval.default(), home / "data", home / "model", task="rerank", **settings)
    asked = rerank.ranked(SQUAD / "validation.jsonl", int(100 * share), 9)
    (home / "test.json").write_text(json.dumps(asked))


def _titles(home: Path, share: float) -> None:
    from tokenizers import Tokenizer

    from benchmarks import seq2seq

    seq2seq.MODELS = home
    seq2seq.train(str(SQUAD), "1" if share < 1 else "4")
    (home / "t5").rename(home / "model")
    rows = [json.loads(line) for line in (home / "data" / "validation.jsonl").read_text().splitlines()]
    cut = int(150 * share)
    tokenizer = Tokenizer.from_file(str(home / "model" / "tokenizer.json"))
    for row in rows[-cut:]:  # a source that is too long is an error in optkit, and cut by the others
        encoded = tokenizer.encode(row["document"])
        if len(encoded.ids) > seq2seq.TOKENS:
            row["document"] = row["document"][: encoded.offsets[seq2seq.TOKENS - 8][0]]
    kept = "".join(json.dumps(row) + "\n" for row in rows[: len(rows) - 150][: int(150 * share)])
    (home / "data" / "validation.jsonl").write_text(kept)
    (home / "test.json").write_text(json.dumps(rows[-cut:]))


def make(task: str, home: Path, work: Path, trial: bool) -> dict[str, Any]:
    """Each peer's models, in a copy of the checkpoint; seconds, or its error."""
    result: dict[str, Any] = {}
    peers = {(c.environment, c.by) for c in CANDIDATES.values() if c.environment and task in c.tasks}
    for environment, by in sorted(peers):
        folder = home / by
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(home / "model", folder, ignore=shutil.ignore_patterns("optkit*.json"))
        _for_older(folder)
        begun = time.monotonic()
        try:
            with Worker(work, environment) as worker:
                worker.call("make", by=by, task=task, folder=str(folder), texts=str(home / "texts"))
            result[by] = {"seconds": round(time.monotonic() - begun, 1), "error": None}
        except RuntimeError as reason:
            result[by] = {"error": str(reason)}
        print(task, by, result[by], flush=True)
    return result


def _for_older(folder: Path) -> None:
    """transformers 4 does not know the name that transformers 5 gives a tokenizer of tokenizers."""
    file = folder / "tokenizer_config.json"
    stated = json.loads(file.read_text(encoding="utf-8"))
    if stated.get("tokenizer_class") == "TokenizersBackend":
        stated["tokenizer_class"] = "PreTrainedTokenizerFast"
        file.write_text(json.dumps(stated, indent=1), encoding="utf-8")


def opened(stack: ExitStack, name: str, task: str, home: Path, work: Path) -> Worker | str:
    """A worker with `name`'s model loaded, or why there is none."""
    one = CANDIDATES[name]
    folder = home / {"torch": "model", "optkit": "optkit"}.get(one.by, one.by)
    worker = stack.enter_context(Worker(work, one.environment))
    try:
        worker.call("load", by=one.by, task=task, folder=str(folder), file=one.file, threads=THREADS)
    except RuntimeError as reason:
        return str(reason)
    return worker


def score(task: str, home: Path, work: Path, trial: bool) -> dict[str, Any]:
    """The metric of each candidate on the test rows, and the paired drop from torch."""
    from optkit.benchmarking.accuracy import paired_drop

    result: dict[str, Any] = {}
    before: np.ndarray | None = None
    for name in (name for name, one in CANDIDATES.items() if task in one.tasks):
        try:
            with ExitStack() as stack:
                worker = opened(stack, name, task, home, work)
                if isinstance(worker, str):
                    raise RuntimeError(worker)
                values = _values(task, worker, json.loads((home / "test.json").read_text()), home)
        except RuntimeError as reason:
            result[name] = {"error": str(reason)}
        else:
            before = values if before is None else before
            drop = asdict(paired_drop(before, values))
            result[name] = {"score": float(values.mean()), "drop": drop, "rows": len(values)}
        print(task, name, result[name], flush=True)
    return result


def _values(task: str, worker: Worker, test: Any, home: Path) -> np.ndarray:
    """The metric of each test row."""

    def answers(inputs: Sequence[Any]) -> np.ndarray:
        worker.call("answer", inputs=list(inputs), out=str(home / "answers.npy"))
        found: np.ndarray = np.load(home / "answers.npy")
        return found

    if task == "text2text":
        from optkit.tasks import text_metrics

        written = answers([row["document"] for row in test])
        return np.array([text_metrics.score("rougeL", [w], [r["summary"]]) for w, r in zip(written, test)])
    from sklearn.metrics import ndcg_score

    if task == "rerank":
        near = answers([[row["query"], row["documents"]] for row in test])
        right = np.array([row["relevances"] for row in test])
    else:
        near = answers(test["queries"]) @ answers(test["documents"]).T
        right = np.eye(near.shape[1])[test["right"]]
    return np.array([ndcg_score([r], [n], k=10) for r, n in zip(right, near)])


def race(task: str, home: Path, work: Path, trial: bool) -> dict[str, Any]:
    """Milliseconds of each candidate, and how many times as fast optkit is."""
    from optkit.benchmarking.statistics import ratio_interval

    test, load = json.loads((home / "test.json").read_text()), os.getloadavg()
    if task == "rerank":
        inputs: list[Any] = [[row["query"], row["documents"]] for row in test]
    elif task == "text2text":
        inputs = [row["document"] for row in test]
    else:
        inputs = [text for pair in zip(test["queries"], test["documents"]) for text in pair]
    size = {"rerank": 4, "text2text": 8}.get(task, MANY)
    one, batch = inputs[:ONE], inputs[ONE : ONE + size]
    taken: dict[str, dict[str, list[list[float]]]] = {}
    result: dict[str, Any] = {"candidates": {}}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name in (name for name, c in CANDIDATES.items() if task in c.tasks):
            worker = opened(stack, name, task, home, work)
            if isinstance(worker, str):
                result["candidates"][name] = {"error": worker}
                continue
            worker.stand_still(True)
            workers[name], taken[name] = worker, {"one": [], "many": []}
        for visit in range((1 if trial else VISITS) + 1):
            for name in np.random.default_rng(visit).permutation(list(workers)):
                worker = workers[str(name)]
                worker.stand_still(False)
                times = worker.call("time", inputs=one, batches=[batch])
                worker.stand_still(True)
                for kind in times if visit else ():  # the first is warm-up
                    taken[str(name)][kind].append(times[kind])
    ours = taken["optkit, INT8"]
    for name, times in taken.items():
        result["candidates"][name] = {
            kind: {
                "ms": float(np.median([np.mean(visit) for visit in times[kind]])),
                "optkit_times_as_fast": None
                if times is ours
                else asdict(ratio_interval([times[kind]], [ours[kind]], centre="total")),
            }
            for kind in ("one", "many")
        }
    return {**result, "batch": size, "load_average": {"before": load, "after": os.getloadavg()}}


PHASES = {"models": models, "make": make, "score": score, "time": race}


def main(arguments: list[str]) -> None:
    from optkit.benchmarking.environment import describe

    trial = "--trial" in arguments
    tasks = ["embeddings", "rerank", "sparse-embeddings", "text2text"]
    if "--tasks" in arguments:
        place = arguments.index("--tasks")
        tasks = arguments.pop(place + 1).split(",")
    work, *phases = (a for a in arguments if not a.startswith("--"))
    folder = Path(work).resolve()
    whole: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"tasks": {}}
    for task in tasks:
        for phase in phases:
            done = PHASES[phase](task, folder / task, folder, trial)
            (folder / task / f"{phase}.json").write_text(json.dumps(done, indent=1))
            whole["tasks"].setdefault(task, {})[phase] = done
    if trial:
        return print(json.dumps(whole, indent=1))
    if "time" in phases:
        whole["environment"] = describe(THREADS)
    RESULT.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
