"""Causal language models: perplexity over windows, the cache, generation against transformers' own."""

from __future__ import annotations

import json
import subprocess
import sys

import datasets
import numpy as np
import pytest

from optkit import load
from optkit.benchmarking.roofline import count
from optkit.errors import DataError, RecipeError
from optkit.models.architectures import infer_task
from optkit.models.checkpoint import fetch, load_model, save_model
from optkit.models.uneven.layout import sublayers
from optkit.models.uneven.surgery import cut, record
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.passes.graph import load_graph
from optkit.runtimes.base import infer_all, open_session
from optkit.runtimes.generation import Generation, generate
from optkit.tasks.base import Columns, open_task
from tests.tasks.builders import decoder

PROMPTS = ["a fine film", "the plot", "d", "the cast is not very good and"]


def export(folder, final, **parameters):
    source = fetch(folder)
    return apply(make("export-onnx", parameters), source, final, make_context(open_task(source)))


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request, tmp_path_factory):
    """(checkpoint, fp32 graph) of each kind."""
    folder = tmp_path_factory.mktemp(request.param)
    made = decoder(folder / "hf", request.param)
    return made, export(made, folder / "onnx")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return open_task(fetch(decoder(tmp_path_factory.mktemp("lm") / "hf")))


def rows(*texts):
    return datasets.Dataset.from_dict({"text": list(texts)})


def test_the_graph_equals_torch_and_its_cache_changes_nothing(model):
    notes = model[1].lineage[-1]["notes"]
    assert infer_task(fetch(model[0])) == "causal-lm"
    assert notes["attention"] == "fused"
    assert notes["operators"]["MultiHeadAttention"] == 2
    assert notes["max_difference"] < 1e-4
    assert notes["cache_difference"] < 1e-4


def test_every_multiply_is_counted_once_per_token(model):
    """What the roofline of a report needs: 2 operations per weight and token, and attention."""
    graph = load_graph(model[1].path)
    table, layer = 257 * 32, {"gpt2": 12 * 32 * 32, "llama": (2 * 32 + 2 * 16 + 3 * 64) * 32}
    kind = fetch(model[0]).config["model_type"]
    attention = 2 * 4 * 3 * 16 * 16 * 32
    assert count(graph, 3, 16).operations == 2 * 3 * 16 * (table + 2 * layer[kind]) + attention


def test_logits_with_a_cache_equal_those_without_token_by_token(model):
    """Each token read alone behind its cache, against the whole text in torch without any."""
    import torch

    network = load_model(model[0])
    ids = np.random.default_rng(0).integers(0, 256, (3, 40))
    with torch.inference_mode():
        expected = network(torch.from_numpy(ids), use_cache=False).logits.numpy()
    with open_session(model[1]) as session:
        reading = session.decoder()
        for i in range(ids.shape[1]):
            found = reading.step(ids[:, i : i + 1], np.ones((3, i + 1), dtype=np.int64))
            np.testing.assert_allclose(found, expected[:, i], atol=1e-4)


@pytest.mark.parametrize("form", ["hf", "onnx"])
def test_greedy_generation_is_transformers_own(model, form):
    """A batch with padding on the left gives, token by token, what `generate` gives for each prompt alone."""
    import torch

    folder = model[0] if form == "hf" else model[1].path
    network = load_model(model[0])
    with load(folder) as predictor:
        task = predictor.task
        answers = predictor.predict(PROMPTS, max_new_tokens=24)
        prompts = task.encoder.whole(PROMPTS)
        assert len({len(p) for p in prompts}) > 1
        for prompt, answer in zip(prompts, answers):
            with torch.inference_mode():
                ids = network.generate(
                    torch.tensor([prompt]), do_sample=False, max_new_tokens=24, pad_token_id=0
                )[0].tolist()
            whole = task.encoder.text(ids)
            assert answer.text == whole[len(task.encoder.text(prompt)) :]
            assert answer.tokens == len(ids) - len(prompt)


def test_plain_attention_gives_the_same_text(tmp_path):
    folder = decoder(tmp_path / "hf")
    plain = export(folder, tmp_path / "plain", attention="plain")
    assert "MultiHeadAttention" not in plain.lineage[-1]["notes"]["operators"]
    with load(plain.path) as one, load(folder) as other:
        assert one.predict(PROMPTS) == other.predict(PROMPTS)


def test_int8_generates_and_no_torch_is_loaded(model, tmp_path):
    context = make_context(open_task(model[1]))
    small = apply(make("quantize-dynamic", {}), model[1], tmp_path / "int8", context)
    products = {"gpt2": 2 * 4, "llama": 2 * 7}[fetch(model[0]).config["model_type"]]
    assert small.lineage[-1]["notes"]["quantized_matmuls"] == products + 1  # the head too
    code = (
        f"import sys, optkit\nmodel = optkit.load({str(small.path)!r})\n"
        "print(model.predict(['a fine film'], max_new_tokens=5, temperature=1.0)[0].tokens)\n"
        "assert not {'torch', 'transformers', 'datasets', 'onnx', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "5"


def test_a_seed_repeats_and_the_rest_of_the_batch_changes_nothing(model):
    drawn = {"temperature": 1.5, "top_k": 50, "top_p": 0.95, "max_new_tokens": 12}
    with load(model[1].path) as predictor:
        together = predictor.predict(PROMPTS, seed=3, **drawn)
        assert together == predictor.predict(PROMPTS, seed=3, **drawn)
        assert together == predictor.predict(PROMPTS, seed=3, batch_size=1, **drawn)
        assert together != predictor.predict(PROMPTS, seed=4, **drawn)


def test_a_stream_gives_the_same_text_in_pieces(model):
    with load(model[1].path) as predictor:
        pieces = list(predictor.generate("a fine film", max_new_tokens=20))
        whole = predictor.predict(["a fine film"], max_new_tokens=20)[0].text
    assert len(pieces) > 1
    assert "".join(pieces) == whole


def test_generation_ends_at_the_last_position(model):
    with load(model[1].path) as predictor:
        long, short = predictor.predict(["x" * 60, "y"], max_new_tokens=50)
        assert (long.tokens, long.finished) == (4, "length")
        assert short.tokens == 50
        assert short == predictor.predict(["y"], max_new_tokens=50)[0]
        with pytest.raises(DataError, match="1 to 63 tokens, received one of 64 at position 1"):
            predictor.predict(["x", "x" * 64])


def test_generation_stops_at_an_end(model):
    task = open_task(model[1])
    with open_session(model[1]) as session:
        prompts = task.encoder.whole(["the plot", "a fine film"])
        ids = [row[0] for row in generate(session.decoder(), prompts, Generation(20), frozenset(), 64)]
        task.ends = (ids[2],)
        stopped, other = task.complete(session, ["the plot", "a fine film"], 2, max_new_tokens=20)
    assert (stopped.finished, stopped.tokens) == ("end", ids.index(ids[2]) + 1)
    assert other.tokens >= 1


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 200, 1000])
def test_every_token_is_scored_once_however_long_the_text(task, length):
    labelled = task.read(rows("x" * length, "yz"), Columns())
    encoded = labelled.encoded
    assert encoded.lengths.max() <= 64
    assert labelled.references == [length, 2]  # the end counts, the first token does not
    outputs = encoded.windows.gather({"log_likelihood": [np.full(n, -1.0) for n in encoded.lengths]})
    np.testing.assert_allclose(task.answers(outputs), [[-length, length], [-2, 2]])
    seen = [int(t) for row in encoded.arrays["targets"][: -1 or None] for t in row if t >= 0]
    assert len(seen) == length + 2 - (2 if encoded.windows.owner[-1] == 1 else 0)


def test_perplexity_is_torchs_loss(model):
    """Weighted by tokens, over texts of different lengths in one batch, in torch and in ONNX Runtime."""
    import torch

    task, network = open_task(fetch(model[0])), load_model(model[0])
    texts = ["a fine film", "dull", "the plot is thin"]
    labelled = task.read(rows(*texts), Columns())
    total, count = 0.0, 0
    for ids in labelled.encoded.arrays["input_ids"]:
        ids = torch.from_numpy(ids)[None]
        with torch.inference_mode():
            total += network(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    for artifact in (fetch(model[0]), model[1]):
        with open_session(artifact) as session:
            outputs = infer_all(session, labelled.encoded, 8, 4096)
        found = task.score(task.answers(outputs), labelled.references)
        assert -found == pytest.approx(np.exp(total / count), rel=1e-4)


def test_a_longer_context_is_used_in_later_windows(model):
    """The tokens of a second window are scored with those of the first before them."""
    task = open_task(model[1])
    text = "a fine film with a bright cast, and then the plot is thin and dull; not one or two but all"
    with open_session(model[1]) as session:
        labelled = task.read(rows(text), Columns())
        windows = infer_all(session, labelled.encoded, 8, 4096)["log_likelihood"][0]
        ids = np.array(task.encoder.whole([text])[0] + [256])
        start = len(ids) - 64 if len(ids) > 64 else 0
        assert start > 0
        second = labelled.encoded.arrays["input_ids"][1]
        feeds = {"input_ids": second[None], "attention_mask": np.ones((1, len(second)), dtype=np.int64)}
        logits = session.infer(feeds)["logits"][0]
    shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = shares[np.arange(len(second) - 1), second[1:]]
    fresh = len(ids) - 64  # tokens that the first window does not hold
    np.testing.assert_allclose(windows[-fresh:], expected[-fresh:], atol=1e-3)


def test_empty_texts_are_left_out_and_counted(task):
    labelled = task.read(rows("a", "", "bc", ""), Columns())
    assert (labelled.skipped, labelled.references) == (2, [1, 2])
    with pytest.raises(DataError, match="received 2 empty ones"):
        task.read(rows("", ""), Columns())


def test_bad_input(task):
    with pytest.raises(DataError, match="row 1, received None"):
        task.read(rows("a", None), Columns())
    with pytest.raises(DataError, match="position 0, received int"):
        task.encode([3])
    with pytest.raises(RecipeError, match="Unknown option 'temprature'"):
        task.complete(None, ["a"], 1, temprature=1.0)
    assert task.encode([""]).arrays["input_ids"][0].tolist() == [256]


def test_the_command_line_writes_and_streams(model):
    from typer.testing import CliRunner

    from optkit.cli import app

    def run(*flags):
        done = CliRunner().invoke(app, ["predict", str(model[1].path), "a fine film", *flags])
        assert done.exit_code == 0, done.output
        return done.stdout

    with load(model[1].path) as predictor:
        text = predictor.predict_one("a fine film", max_new_tokens=6).text
    answer = json.loads(run("--json", "--max-new-tokens", "6"))
    assert answer == {"text": "a fine film", "completion": text, "tokens": 6, "finished": "length"}
    assert run("--stream", "--max-new-tokens", "6") == f"a fine film{text}\n"
    drawn = ("--temperature", "2", "--top-k", "9", "--top-p", "0.9", "--seed", "1")
    assert run(*drawn) == run(*drawn) != run()


def test_other_tasks_take_no_options(checkpoint):
    with load(checkpoint) as predictor:
        with pytest.raises(RecipeError, match="received the options temperature"):
            predictor.predict(["a film"], temperature=1.0)
        with pytest.raises(RecipeError, match="generates text"):
            list(predictor.generate("a film"))


def test_agreement_is_the_ratio_of_perplexities(task):
    a, b = np.array([[-2.0, 2], [-4, 2]]), np.array([[-2.0, 2], [-2, 2]])
    assert task.agreement(a, a) == 1
    assert task.agreement(a, b) == pytest.approx((1 + np.exp(-1)) / 2)
    assert task.score(a, [2, 2]) == pytest.approx(-np.exp(6 / 4))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("attention", ["fused", "plain"])
def test_a_pruned_model_generates_the_same_text_from_its_graph(kind, attention, tmp_path):
    """Its layers have different numbers of heads, and so has the cache."""
    source = fetch(decoder(tmp_path / "hf", kind))
    network = load_model(source)
    cut(sublayers(network)[0], [1])
    record(network)
    save_model(network, source, tmp_path / "pruned")
    graph = export(tmp_path / "pruned", tmp_path / "onnx", attention=attention)
    whole = {"gpt2": 4, "llama": 2}[kind]
    with load(graph.path) as one, load(tmp_path / "pruned") as other:
        assert one.predict(PROMPTS, max_new_tokens=24) == other.predict(PROMPTS, max_new_tokens=24)
        pasts = [x.shape[1] for x in one._session._inputs if x.name.startswith("past_key_values.")]
    assert pasts == [1, 1, whole, whole]
