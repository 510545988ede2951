"""Small real checkpoints and data, built here: random weights, two layers, a word-level tokenizer."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import settings

from examples.tiny import WORDS, sentences, write_tokenizer  # noqa: F401, for the tests to import

settings.register_profile("untimed", deadline=None)  # a loaded machine makes no test fail
settings.load_profile("untimed")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of two test processes each has a core

SHARED = Path(__file__).resolve().parents[2] / "shared"


#: Folders of tests that train, export and start little: `pytest -m quick` runs them, but for the files below.
QUICK = {"benchmarking", "cli", "core", "data", "preprocessing", "report", ""}
SLOW = {
    *("reference", "test_benchmark.py", "test_roofline.py", "test_stored_answers.py", "test_worker.py"),
    *("test_chromium.py", "test_contributing.py", "test_examples.py", "test_fidelity.py", "test_flops.py"),
    *("test_int8_share.py", "test_serving_examples.py", "test_taggers.py"),
}


def pytest_collection_modifyitems(items):
    """What is not quick goes first, so that no process waits for a long file of another in the end."""
    for item in items:
        if is_quick(item.path):
            item.add_marker(pytest.mark.quick)
    items.sort(key=lambda item: is_quick(item.path))


def is_quick(file: Path) -> bool:
    """Whether the tests in `file` take little time all together."""
    parts = file.relative_to(Path(__file__).parent).parts
    return ("" if len(parts) == 1 else parts[0]) in QUICK and not SLOW & set(parts)


class QuietMachine:
    """A noise ledger of a machine on which nothing else runs."""

    def doubts(self) -> list[str]:
        return []

    def figures(self) -> dict[str, float | None]:
        return {"steal": 0.0}


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    """Other work on the machine that runs the tests makes no test measure twice."""
    monkeypatch.setattr("optkit.benchmarking.latency.NoiseLedger", QuietMachine)


@pytest.fixture(scope="session")
def common(tmp_path_factory, worker_id) -> Path:
    """A folder that all test processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "common"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def peaks_measured_once(common):
    """The CPU is the same in all tests: its peaks, which take seconds, are measured once."""
    from optkit.benchmarking.evaluation import Evaluator
    from optkit.benchmarking.roofline import Peak

    whole = Evaluator._peak

    def peak(self):
        if self.target != "cpu":
            return whole(self)
        file = common / f"peaks-{self.plan.threads}.json"
        if not file.exists():
            own = file.with_suffix(f".{os.getpid()}")
            own.write_text(json.dumps(asdict(whole(self))))
            own.rename(file)  # whole, for whoever reads it meanwhile
        return Peak(**json.loads(file.read_text()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, "_peak", peak)
        yield


@pytest.fixture(scope="session", autouse=True)
def forked_children():
    """The child processes of optkit are forks, where no test asks for `real_children`."""
    if sys.platform != "linux":
        yield
        return
    from optkit.core.process import Child
    from tests.forks import use_forks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optkit.core.process.subprocess", subprocess)  # which is put back in the end
        use_forks()
        if "COVERAGE_PROCESS_CONFIG" in os.environ:
            patch.setattr(Child, "close", slow_close(Child.close))
        yield


@pytest.fixture(scope="session", autouse=True)
def exports(common):
    """`tests.exports` for this process and those that it starts."""
    from optkit.passes import torch_export
    from tests.exports import remembering

    home = common / "exports"
    home.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTKIT_TEST_EXPORTS", str(home))
        patch.setattr(torch_export, "save", remembering(home))
        yield


@pytest.fixture
def real_exports(monkeypatch):
    """torch's exporter is asked each time."""
    from optkit.passes import torch_export

    monkeypatch.setattr(torch_export, "save", torch_export.save.__wrapped__)


def slow_close(close):
    """A child that would be killed at once ends by itself before, so that what it covered is written."""

    def ended(child) -> None:
        child.resume()
        for stream in (child._process.stdin, child._process.stdout):
            stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child._process.wait(timeout=3)
        close(child)

    return ended


@pytest.fixture
def run(monkeypatch, capsys):
    """run(*arguments) → (exit code, stdout, stderr) of the command line in this process."""
    from optkit import cli

    def run(*arguments: object):
        monkeypatch.setattr(sys, "argv", ["optkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return (stopped.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def real_children(monkeypatch):
    """Each child process is a Python of its own, as it is for users."""
    monkeypatch.setattr("optkit.core.process.subprocess", subprocess)


def read_what_is_installed_anew():
    """A registry reads once which names installed packages add; a test adds some."""
    from optkit.passes import PASSES
    from optkit.runtimes import RUNTIMES
    from optkit.tasks import TASKS

    for registry in (PASSES, RUNTIMES, TASKS):
        vars(registry).pop("_installed", None)


@pytest.fixture
def fake_runtime(monkeypatch):
    """Gives `optkit.runtimes.fake` the name "fake", here and in child processes, as a plugin would."""
    plugins = str(Path(__file__).parent / "plugins")
    monkeypatch.syspath_prepend(plugins)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([plugins, *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    read_what_is_installed_anew()
    yield
    read_what_is_installed_anew()


@pytest.fixture(scope="session")
def shared_checkpoint() -> Path:
    """The real fine-tuned checkpoint, where it is at hand."""
    path = SHARED / "checkpoints" / "minilm-l6-sst2"
    if not path.exists():
        pytest.skip("the shared checkpoint is not beside this project")
    return path


@pytest.fixture(scope="session")
def shared_sst2() -> Path:
    path = SHARED / "data" / "sst2"
    if not path.exists():
        pytest.skip("the shared data is not beside this project")
    return path


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory):
    """make_checkpoint("bert", labels=..., **config) → a folder with safetensors, config and tokenizer."""

    def make(kind: str = "bert", labels: tuple[str, ...] = ("negative", "positive"), **changes) -> Path:
        import torch
        import transformers

        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp(f"{kind}-checkpoint")
        write_tokenizer(folder)
        config = transformers.AutoConfig.for_model(kind, **{**tiny(kind), **changes})
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
        model = transformers.AutoModelForSequenceClassification.from_config(config)
        for p in model.parameters():  # logits far enough apart that rounding does not decide
            p.data.mul_(3.0) if p.dim() > 1 else None
        model.save_pretrained(str(folder))
        return folder

    return make


@pytest.fixture(scope="session")
def checkpoint(make_checkpoint) -> Path:
    return make_checkpoint("bert")


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """train (64), validation (40) and test (20) sentences with labels by name."""
    folder = tmp_path_factory.mktemp("data")
    for split, count in (("train", 64), ("validation", 40), ("test", 20)):
        write_jsonl(folder / f"{split}.jsonl", sentences(count, seed=count))
    return folder


@pytest.fixture(scope="session")
def context(checkpoint, data):
    """What a pass is handed for that checkpoint and data."""
    from optkit.data.dataset import Data
    from optkit.models.checkpoint import fetch
    from optkit.passes.context import make_context
    from optkit.tasks.base import open_task

    return make_context(open_task(fetch(checkpoint)), Data(str(data)))


def write_jsonl(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def tiny(kind: str) -> dict:
    """The smallest configuration of `kind` that still has two layers and two heads."""
    if kind == "distilbert":
        return {
            "vocab_size": 40,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 64,
            "max_position_embeddings": 64,
        }
    sizes = {
        "vocab_size": 40,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    }
    if kind == "roberta":
        sizes |= {"max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 1}
    if kind == "modernbert":
        special = dict.fromkeys(("bos_token_id", "cls_token_id"), 2) | dict.fromkeys(
            ("eos_token_id", "sep_token_id"), 3
        )
        sizes |= {"pad_token_id": 0, "global_attn_every_n_layers": 2, "local_attention": 8, **special}
    if kind == "electra":
        sizes |= {"embedding_size": 32}
    return sizes
