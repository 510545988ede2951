"""The baseline is transformers itself: equal to plain calls of it, and made by no code of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from optkit.benchmarking.reference.tasks import REFERENCES
from optkit.core.artifact import Artifact
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task
from tests.benchmarking.reference.models import HEADS, model
from tests.tasks.builders import decoder, embedder, vit

TEXTS = ["the plot is thin", "FINE film.", "", "caf\u00e9 caf\u0065\u0301 " * 40, "the"]
PAIRS = [("the plot", "is thin"), ("FINE", "film. " * 60), ("the film " * 60, "is"), ("", "a b")]
WORDS = [["\u200bthe", "plot", "\u00a0is", "caf\u0065\u0301"], ["fine"] * 90, ["", "x"]]
QUESTIONS = [("the plot", "the film is fine and thin"), ("is", "the film is fine " * 30)]

#: What the baseline may be made of. `optkit.passes.pruning` names a key of config.json.
#: Packages that hold a docstring alone, the switch of telemetry, the key of pruned models, and the baseline.
OWN = {
    *(
        "optkit",
        "optkit.core.version",
        "optkit.benchmarking",
        "optkit.core",
        "optkit.models",
        "optkit.models.uneven",
    ),
    *("optkit.core.telemetry", "optkit.models.uneven", "optkit.models.uneven.key"),
    *(f"optkit.benchmarking.reference{name}" for name in ("", ".base", ".tasks", ".text_classification")),
    *("optkit.errors", "optkit.core.registry"),  # what finds the reference by its name
}


def test_a_plain_checkpoint_is_answered_by_no_code_that_is_to_be_proven(tmp_path):
    """All modules of ours that a process of the baseline loads, from the folder to the answer."""
    folder = model(tmp_path, "bert", "bert", "text-classification")
    code = (
        "import sys\nfrom pathlib import Path\nfrom optkit.benchmarking.reference.tasks import REFERENCES\n"
        f"one = REFERENCES['text-classification'](Path({str(folder)!r}))\ninputs = ['the plot', 'is']\n"
        "one.answers(one.outputs(one.rows(inputs), inputs), inputs)\n"
        "print('LOADED', *sorted(n for n in sys.modules if n.split('.')[0] == 'optkit'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = next(line for line in done.stdout.splitlines() if line.startswith("LOADED")).split()[1:]
    assert set(loaded) <= OWN


def plain(folder: Path, task: str):
    """transformers' tokenizer and model of `folder`, as its documentation opens them."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    network = getattr(transformers, HEADS[task]).from_pretrained(str(folder), dtype=torch.float32).eval()
    return tokenizer, network


def ours(folder: Path, task: str, inputs):
    """What our encoder, session and task give."""
    artifact = Artifact.open(folder)
    with open_session(artifact, "torch", task=task) as session:
        opened = open_task(artifact, task)
        if task == "causal-lm":  # a document ends with the end of text
            encoded = opened.read(Dataset.from_dict({"text": inputs}), Columns()).encoded
        else:
            encoded = opened.encode(inputs)
        return infer_all(session, encoded, 32, 4096)


def theirs(folder: Path, task: str, inputs):
    reference = REFERENCES[task](folder)
    return reference, reference.outputs(reference.rows(inputs), inputs)


@pytest.mark.parametrize("inputs", [TEXTS, PAIRS], ids=["texts", "pairs"])
@pytest.mark.parametrize(
    ("tokenizer", "kind"),
    [("bert", "bert"), ("bert-no-types", "bert"), ("bert-says-cased", "bert"), ("albert", "albert"),
     ("roberta", "roberta"), ("electra", "electra")],
)  # fmt: skip
def test_texts_and_pairs_are_classified_as_plain_transformers_does(tokenizer, kind, inputs, tmp_path):
    import torch

    folder = model(tmp_path, tokenizer, kind, "text-classification")
    reader, network = plain(folder, "text-classification")
    reference, found = theirs(folder, "text-classification", inputs)
    own = ours(folder, "text-classification", inputs)
    for i, item in enumerate(inputs):
        parts = (item,) if isinstance(item, str) else item
        with torch.inference_mode():
            batch = reader(*parts, truncation=True, max_length=64, return_tensors="pt")
            expected = network(**batch).logits[0].numpy()
        np.testing.assert_allclose(found["logits"][i], expected, atol=1e-4)
        np.testing.assert_allclose(own["logits"][i], expected, atol=1e-4)
        assert reference.answers(found, inputs)[i] == int(expected.argmax())


@pytest.mark.parametrize(
    ("tokenizer", "kind", "threshold"),
    [("bert", "bert", None), ("bert", "bert", 1.5), ("albert", "albert", None)],
)
def test_answers_to_questions_are_those_of_plain_transformers(tokenizer, kind, threshold, tmp_path):
    """ALBERT's tokenizer gives other types than its post-processor states; with a threshold there may be no
    answer, by the first token of the window where it is least."""
    import torch

    more = {} if threshold is None else {"null_score_diff_threshold": threshold}
    folder = model(tmp_path, tokenizer, kind, "question-answering", **more)
    reader, network = plain(folder, "question-answering")
    reference, found = theirs(folder, "question-answering", QUESTIONS)
    own = ours(folder, "question-answering", QUESTIONS)
    task = open_task(Artifact.open(folder))
    for limit in (threshold, -1e5, 1e5) if more else (None,):  # this one, all refused, none
        task.null_threshold = limit
        if more:
            reference.model.config.null_score_diff_threshold = limit
        given = task.answers(own).tolist()
        assert given == list(reference.answers(found, QUESTIONS))
        assert limit != -1e5 or set(given) == {""}
        assert limit != 1e5 or "" not in given
    for i, (question, context) in enumerate(QUESTIONS):
        batch = reader(
            question, context, truncation="only_second", max_length=64, stride=16, return_tensors="pt",
            return_overflowing_tokens=True, padding=True,
        )  # fmt: skip
        batch.pop("overflow_to_sample_mapping")
        with torch.inference_mode():
            answer = network(**batch)
        for name in ("start_logits", "end_logits"):
            values = answer[name].numpy()
            none = 0 if more else -1  # where the token of no answer stands
            expected = [values[w, p] for w in range(len(values))
                        for p, s in enumerate(batch.sequence_ids(w)) if s == 1 or p == none]  # fmt: skip
            np.testing.assert_allclose(found[name][i], expected, atol=1e-3)
            np.testing.assert_allclose(own[name][i], expected, atol=1e-3)


@pytest.mark.parametrize(("tokenizer", "kind"), [("bert", "bert"), ("roberta", "roberta")])
def test_words_are_tagged_as_plain_transformers_tags_them(tokenizer, kind, tmp_path):
    import torch

    folder = model(tmp_path, tokenizer, kind, "token-classification")
    reader, network = plain(folder, "token-classification")
    reference, found = theirs(folder, "token-classification", WORDS)
    own = ours(folder, "token-classification", WORDS)
    assert any("as if they were joined" in x for x in reference.doubts) == (tokenizer == "roberta")
    answers = reference.answers(found, WORDS)
    assert open_task(Artifact.open(folder)).tags(own) == [tuple(tags) for tags in answers]
    for i, words in enumerate(WORDS):
        if len(words) > 50:  # more than one window
            assert len(answers[i]) == len(words)
            continue
        batch = reader([words], is_split_into_words=True, return_tensors="pt")
        with torch.inference_mode():
            best = network(**batch).logits[0].argmax(-1).tolist()
        ids, tags = batch.word_ids(0), ["O"] * len(words)
        for position in reversed(range(len(ids))):  # the first subword comes last
            if ids[position] is not None:
                tags[ids[position]] = network.config.id2label[best[position]]
        assert answers[i] == tags


def test_perplexity_is_that_of_plain_transformers(tmp_path):
    import torch

    folder = decoder(tmp_path / "lm")
    texts = ["the plot is thin", "a"]
    reader, network = plain(folder, "causal-lm")
    reference, found = theirs(folder, "causal-lm", texts)
    own = ours(folder, "causal-lm", texts)
    for i, text in enumerate(texts):
        ids = torch.tensor([[*reader(text)["input_ids"], reader.eos_token_id]])
        with torch.inference_mode():
            loss = float(network(input_ids=ids, labels=ids).loss)
        total, count = reference.answers(found, texts)[i]
        assert count == ids.shape[1] - 1
        assert -total / count == pytest.approx(loss, abs=1e-4)
        assert -float(own["log_likelihood"][i].mean()) == pytest.approx(loss, abs=1e-4)


def test_vectors_are_those_of_sentence_transformers(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    folder = embedder(tmp_path / "e", pooling={"pooling_mode_mean_tokens": True})
    texts = ["a fine film", "dull", "the plot is thin " * 9]
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(texts)
    _, found = theirs(folder, "embeddings", texts)
    own = ours(folder, "embeddings", texts)
    np.testing.assert_allclose(np.stack(found["sentence_embedding"]), expected, atol=1e-5)
    np.testing.assert_allclose(np.stack(own["sentence_embedding"]), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_classified_as_plain_transformers_does(channels, tmp_path):
    import torch
    import transformers
    from PIL import Image

    folder = vit(tmp_path / "vit", channels=channels)
    files = []
    for i, size in enumerate([(9, 20), (31, 8)]):
        noise = np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(noise).save(files[-1])
    processor = transformers.AutoImageProcessor.from_pretrained(str(folder))
    network = transformers.AutoModelForImageClassification.from_pretrained(str(folder)).eval()
    opened = [Image.open(file).convert("L" if channels == 1 else "RGB") for file in files]
    with torch.inference_mode():
        expected = network(**processor(images=opened, return_tensors="pt")).logits.numpy()
    _, found = theirs(folder, "image-classification", files)
    np.testing.assert_allclose(np.stack(found["logits"]), expected, atol=1e-4)
    np.testing.assert_allclose(
        np.stack(ours(folder, "image-classification", files)["logits"]), expected, atol=0.05
    )
