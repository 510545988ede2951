"""What `finetune` can be asked for beside its defaults: losses, optimizers, adapters, decoders, curves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from optkit import load
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, RecipeError
from optkit.events import Scored
from optkit.training.finetune import FinetuneSettings, finetune
from optkit.training.trainer.distributed import World
from optkit.training.trainer.setup import class_loss, speed_up
from tests.conftest import write_jsonl, write_tokenizer
from tests.training.conftest import interrupted


def settings(**changes) -> FinetuneSettings:
    return FinetuneSettings(**{"epochs": 3, "batch": 16, "learning_rate": 5e-3, "max_length": 16, **changes})


def test_the_loss_weighs_classes_softens_targets_and_leaves_padding_out():
    torch = pytest.importorskip("torch")

    class Network:
        class config:
            num_labels = 3

    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 1, 2, -100], [1, 1, -100, -100]])
    weights = np.array([1.0, 0.5, 2.0])
    found = class_loss(Network, weights, 0.0)({"logits": logits}, labels)
    logp = torch.log_softmax(logits, -1)
    picked = [(i, j, int(labels[i, j])) for i in range(2) for j in range(4) if labels[i, j] >= 0]
    expected = -sum(weights[c] * logp[i, j, c] for i, j, c in picked) / sum(weights[c] for *_, c in picked)
    assert float(found) == pytest.approx(float(expected), abs=1e-6)
    soft = class_loss(Network, None, 0.3)({"logits": logits}, labels)
    each = [0.7 * logp[i, j, c] + 0.1 * logp[i, j].sum() for i, j, c in picked]
    assert float(soft) == pytest.approx(float(-sum(each) / len(each)), abs=1e-6)


def test_chosen_weights_get_a_faster_group_of_their_own():
    torch = pytest.importorskip("torch")
    a, b, c = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    optimizer = torch.optim.AdamW([{"params": [a, b], "weight_decay": 0.1}, {"params": [c]}], lr=1e-3)
    speed_up(optimizer, {id(b)}, 10)
    found = [([id(p) for p in g["params"]], g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert found == [([id(a)], 1e-3, 0.1), ([id(c)], 1e-3, 0.01), ([id(b)], pytest.approx(1e-2), 0.1)]


def test_a_new_head_learns_faster_and_a_known_one_does_not(checkpoint, data, tmp_path):
    """Two labels as in the checkpoint, or three: then the head is new."""
    rows = [{"text": f"film {i}", "label": "abc"[i % 3]} for i in range(48)]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    moved = {}
    for name, source in (("new", tmp_path), ("known", data)):
        made = [
            finetune(checkpoint, source, tmp_path / f"{name}-{rate}", settings(epochs=1, head_rate=rate))
            for rate in (1, 20)
        ]
        slow, fast = (load_file(m.path / "model.safetensors")["classifier.weight"] for m in made)
        moved[name] = np.abs(fast - slow).max()
    assert moved["known"] == 0
    assert moved["new"] > 0.05


def test_balanced_weights_find_a_rare_class(checkpoint, tmp_path):
    """Nine of ten texts are of one class, and no text says which: the weights alone decide."""
    rows = [{"text": "a film", "label": "rare" if i % 10 == 0 else "usual"} for i in range(160)]
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    shares = {}
    for name in ("none", "balanced"):
        made = finetune(checkpoint, tmp_path, tmp_path / name, settings(class_weights=name))
        with load(made.path) as model:
            answer = model.predict(["a film"])[0]
        shares[name] = answer.score if answer.label == "rare" else 1 - answer.score
    assert shares["none"] < 0.25
    assert 0.35 < shares["balanced"] < 0.65


@pytest.mark.parametrize("asked", [{"class_weights": "balanced"}, {"label_smoothing": 0.1}])
def test_class_losses_are_refused_where_there_are_no_classes(checkpoint, tmp_path, asked):
    rows = [{"text": "good " * (i % 5 + 1), "label": i % 5 + 0.5} for i in range(40)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    with pytest.raises(RecipeError, match=f"{next(iter(asked))} is for one class"):
        finetune(checkpoint, tmp_path, tmp_path / "out", settings(**asked))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "asked",
    [
        {"optimizer": "sgd", "schedule": "cosine", "label_smoothing": 0.1},
        {"optimizer": "adafactor", "schedule": "constant", "gradient_checkpointing": True},
        {"optimizer": "adagrad", "schedule": "constant_with_warmup", "class_weights": "balanced"},
        {"optimizer": "rmsprop", "schedule": "polynomial", "precision": "bf16"},
        {"schedule": "inverse_sqrt", "accumulate": 2, "patience": 1},
    ],
    ids=lambda asked: "-".join(map(str, asked.values())),
)
def test_every_optimizer_and_schedule_lowers_the_loss(checkpoint, learnable, tmp_path, asked):
    rate = {"sgd": 0.5, "adagrad": 0.05}.get(asked.get("optimizer"), 3e-3)
    made = finetune(checkpoint, learnable, tmp_path / "out", settings(learning_rate=rate, **asked))
    losses = [entry["loss"] for entry in made.lineage[-1]["notes"]["losses"]]
    assert losses[-1] < losses[0]


def test_patience_ends_the_run(checkpoint, tmp_path):
    rows = [{"text": "a film", "label": "ab"[i % 2]} for i in range(32)]  # nothing to learn
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    made = finetune(checkpoint, tmp_path, tmp_path / "out", settings(epochs=9, patience=2))
    assert len(made.lineage[-1]["notes"]["history"]) < 9


@pytest.mark.parametrize("moment", ["before its last epoch is kept", "when it is saved"])
@pytest.mark.parametrize("asked", [{"epochs": 9, "patience": 2}, {"epochs": 2.5}], ids=["patience", "part"])
def test_a_killed_run_ends_where_an_uninterrupted_one_does(checkpoint, tmp_path, monkeypatch, asked, moment):
    rows = [{"text": "a film", "label": "ab"[i % 2]} for i in range(64)]  # nothing to learn
    for split in ("train", "validation"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    whole = finetune(checkpoint, tmp_path, tmp_path / "whole", settings(**asked))
    looks = len(whole.lineage[-1]["notes"]["history"])

    def killed(event, *_):
        if moment == "when it is saved" or (isinstance(event, Scored) and event.epoch > looks - 1):
            raise KeyboardInterrupt

    hears = {"events": killed} if moment != "when it is saved" else {}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        if not hears:
            patched.setattr("optkit.training.finetune.staged", killed)
        finetune(checkpoint, tmp_path, tmp_path / "out", settings(**asked), **hears)
    again = finetune(checkpoint, tmp_path, tmp_path / "out", settings(**asked))
    assert again.lineage[-1]["notes"]["history"] == whole.lineage[-1]["notes"]["history"]
    assert again.lineage[-1]["notes"]["losses"] == whole.lineage[-1]["notes"]["losses"]
    assert again.manifest["files"]["model.safetensors"] == whole.manifest["files"]["model.safetensors"]


def test_adapters_train_in_place_of_the_weights_and_are_merged(checkpoint, learnable, tmp_path):
    pytest.importorskip("peft")
    asked = settings(epochs=3, lora=2, learning_rate=2e-2)
    interrupted(checkpoint, learnable, tmp_path / "out", asked, after=0.6)
    made = finetune(checkpoint, learnable, tmp_path / "out", asked)
    whole = finetune(checkpoint, learnable, tmp_path / "whole", asked)
    assert made.manifest["files"]["model.safetensors"] == whole.manifest["files"]["model.safetensors"]
    assert made.lineage[-1]["notes"]["score"] > 0.9
    before, after = (load_file(p / "model.safetensors") for p in (checkpoint, made.path))
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert not [name for name in changed if "embeddings" in name or "LayerNorm" in name]
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert np.linalg.matrix_rank(after[query] - before[query], tol=1e-4) == 2
    with load(made.path) as model:
        assert [a.label for a in model.predict(["good film", "bad film"])] == ["positive", "negative"]


def test_a_decoder_learns_and_reads_the_last_word_before_the_padding(learnable, tmp_path):
    import torch
    import transformers

    torch.manual_seed(0)
    source = tmp_path / "gpt2"
    config = transformers.GPT2Config(
        vocab_size=40, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=3, eos_token_id=3
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(str(source))
    write_tokenizer(source)
    made = finetune(source, learnable, tmp_path / "out", settings(epochs=4))
    assert made.lineage[-1]["notes"]["score"] > 0.9
    assert made.config["pad_token_id"] == 3
    texts = ["good film", "bad film the plot is thin and dull bright cast"]
    with load(made.path) as model:
        assert [a.label for a in model.predict(texts)] == ["positive", "negative"]


def test_curves_lie_beside_the_weights_and_are_no_part_of_the_model(checkpoint, learnable, tmp_path):
    made = finetune(checkpoint, learnable, tmp_path / "out", settings())
    page = (made.path / "training.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "accuracy by epoch" in page
    assert not [name for name in made.manifest["files"] if "tfevents" in name or name == "training.html"]
    Artifact.open(made.path).verify()
    pytest.importorskip("tensorboard", reason="TensorBoard's events are written where it is installed")
    assert list((made.path / "tensorboard").glob("events.out.tfevents*"))


def test_sharding_is_refused_where_there_is_nothing_to_shard_over(checkpoint, learnable, tmp_path):
    with pytest.raises(RecipeError, match="several GPUs for fsdp"):
        World(0, 2).check(FinetuneSettings(fsdp=True))
    with pytest.raises(RecipeError, match="in one process"):
        finetune(checkpoint, learnable, tmp_path / "out", settings(fsdp=True))


@pytest.mark.parametrize("rank", [0, 2])
def test_what_was_sharded_is_written_from_a_whole_network(checkpoint, learnable, tmp_path, monkeypatch, rank):
    """As if over GPUs: the network that was trained keeps no weights of its own behind `whole_weights`."""
    if rank:
        pytest.importorskip("peft")
    from optkit.training import finetune as module

    def taken(network):
        found = {name: w.clone() for name, w in network.state_dict().items()}
        for w in network.state_dict().values():
            w.zero_()
        return found

    plain = module.arguments
    whole = finetune(checkpoint, learnable, tmp_path / "whole", settings(lora=rank))
    monkeypatch.setattr(World, "check", lambda *_: None)
    monkeypatch.setattr(module, "arguments", lambda s, *rest: plain(replace(s, fsdp=False), *rest))
    monkeypatch.setattr(module, "whole_weights", taken)
    made = finetune(checkpoint, learnable, tmp_path / "sharded", settings(lora=rank, fsdp=True))
    assert made.manifest["files"]["model.safetensors"] == whole.manifest["files"]["model.safetensors"]


def test_a_name_that_is_neither_folder_nor_on_the_hub_is_refused(learnable, tmp_path):
    with pytest.raises(CheckpointError, match="could not be had from the hub"):
        finetune("nobody/nothing", learnable, tmp_path / "out", settings())


@pytest.mark.parametrize(
    "wrong", [{"epochs": float("inf")}, {"warmup": float("nan")}, {"seed": -1}, {"seed": 2**32}]
)
def test_numbers_are_finite_and_in_range(wrong):
    [name] = wrong
    with pytest.raises(RecipeError, match=f"Expected {name} as .*, received "):
        FinetuneSettings(**wrong)
