"""A language model with its cache in OpenVINO's state, against torch and transformers' own generate."""

from __future__ import annotations

import numpy as np
import pytest

import optkit
from optkit.errors import PassError
from optkit.models.checkpoint import fetch, load_model
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import open_session
from optkit.tasks.base import open_task
from tests.models.build import build
from tests.models.families import FAMILIES
from tests.tasks.builders import decoder

pytest.importorskip("openvino")

PROMPTS = ["a fine film", "the plot", "d", "the cast is not very good and"]


def converted(folder, final, **parameters):
    source = fetch(folder)
    return apply(make("open-vino-stateful", parameters), source, final, make_context(open_task(source)))


def of_family(name, folder):
    return build(next(f for f in FAMILIES if f.name == name), "causal-lm", folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return decoder(tmp_path_factory.mktemp("llama") / "hf", "llama")


@pytest.fixture(scope="module")
def plain(checkpoint, tmp_path_factory):
    return converted(checkpoint, tmp_path_factory.mktemp("fp32") / "ov", weights="fp32")


def test_texts_are_those_of_transformers_generate(checkpoint, plain):
    import torch

    network, task = load_model(checkpoint), open_task(plain)
    with optkit.load(plain.path) as model:
        answers = model.predict(PROMPTS, max_new_tokens=12)
    for prompt, answer in zip(PROMPTS, answers):
        ids = torch.tensor([task.encoder.whole([prompt])[0]])
        written = network.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()
        assert answer.tokens == len(written)
        assert answer.text == task.encoder.text([*ids[0].tolist(), *written])[len(prompt) :]


def test_two_texts_at_once_have_a_state_each(plain):
    ids = np.random.default_rng(0).integers(3, 250, (2, 9))
    with open_session(plain) as session:
        alone = []
        for row in ids:
            reading = session.decoder()
            alone.append([reading.step(row[None, i : i + 3], np.ones((1, i + 3), int)) for i in (0, 3, 6)])
        readers = [session.decoder(), session.decoder()]
        for place, i in enumerate((0, 3, 6)):
            for reading, row, right in zip(readers, ids, alone):
                step = reading.step(row[None, i : i + 3], np.ones((1, i + 3), int))
                np.testing.assert_allclose(step, right[place], atol=1e-5)
        scored = session.infer({"input_ids": ids, "attention_mask": np.ones_like(ids)})["logits"]
        np.testing.assert_allclose(scored[:, -1], np.concatenate([a[-1] for a in alone]), atol=1e-5)


@pytest.mark.parametrize("name", ["Gemma 2", "gpt-oss"])
def test_soft_caps_sinks_and_windows_are_torchs(name, tmp_path):
    notes = converted(of_family(name, tmp_path / "hf"), tmp_path / "ov", weights="fp32").lineage[-1]["notes"]
    assert notes["max_difference"] < 1e-4


def test_weights_in_few_bits_answer_nearly_the_same(checkpoint, plain, tmp_path):
    texts = ["a fine film and the plot", "the cast is not very good"]
    with optkit.load(plain.path) as model:
        right = np.array([a.log_likelihood for a in model.task.decode(answers_of(model, texts))])
    for weights, stored, apart in (("int8", "u8", 0.02), ("int4", "u4", 0.1)):
        artifact = converted(checkpoint, tmp_path / weights, weights=weights)
        assert artifact.precision == "weight-only"
        assert artifact.lineage[-1]["notes"]["compressed"][stored] > 10_000
        assert bytes_of(artifact) < bytes_of(plain) / 3
        with optkit.load(artifact.path) as model:
            now = np.array([a.log_likelihood for a in model.task.decode(answers_of(model, texts))])
        assert 0 < np.abs(now / right - 1).max() < apart


def bytes_of(artifact):
    return (artifact.path / "openvino_model.bin").stat().st_size


def answers_of(model, texts):
    from optkit.runtimes.base import infer_all

    return infer_all(model._session, model.encode(texts), 8, 512)


def test_int4_is_fitted_to_training_texts(checkpoint, tmp_path):
    from optkit.data.dataset import Data
    from tests.conftest import write_jsonl

    write_jsonl(tmp_path / "train.jsonl", [{"text": f"a fine film number {i}"} for i in range(8)])
    source = fetch(checkpoint)
    step = make("open-vino-stateful", {"weights": "int4", "group": 32, "awq": True, "scale_estimation": True})
    assert step.fitted
    context = make_context(open_task(source), Data(str(tmp_path / "train.jsonl")))
    assert apply(step, source, tmp_path / "ov", context).lineage[-1]["notes"]["compressed"]["u4"] > 10_000


def test_what_it_does_not_take_is_told(make_checkpoint, tmp_path):
    encoder = fetch(make_checkpoint())
    with pytest.raises(PassError, match="takes causal language models, received a model for text-class"):
        make("open-vino-stateful", {}).check(encoder, open_task(encoder))
    with pytest.raises(PassError, match="OpenVINO cannot read MptForCausalLM: .*sym_max"):
        converted(of_family("MPT", tmp_path / "hf"), tmp_path / "ov")
