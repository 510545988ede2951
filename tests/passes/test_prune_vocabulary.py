"""The pass: the same answers from a smaller embedding, on every text; what was lost is said."""

from __future__ import annotations

import json

import numpy as np
import pytest

from optkit.benchmarking.gate import Gate
from optkit.compression.compress import compress
from optkit.compression.recipe import Recipe
from optkit.data.dataset import Data
from optkit.errors import RecipeError
from optkit.models.checkpoint import fetch, load_model
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.passes.distill import Distill
from optkit.passes.prune_vocabulary import PruneVocabulary
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import open_task
from tests.conftest import WORDS, write_jsonl
from tests.tasks.builders import decoder


@pytest.fixture(scope="module")
def few_data(tmp_path_factory) -> str:
    """Data whose training split uses half of the words, and a test split that uses one more."""
    folder = tmp_path_factory.mktemp("few")
    words = WORDS[:10]
    rows = [{"text": " ".join(words[i % 5 : i % 5 + 5]), "label": "negative"} for i in range(40)]
    write_jsonl(folder / "train.jsonl", rows)
    write_jsonl(folder / "validation.jsonl", rows[:8])
    write_jsonl(folder / "test.jsonl", [*rows[:3], {"text": f"{words[0]} good good", "label": "positive"}])
    return str(folder)


@pytest.fixture(scope="module")
def few(checkpoint, few_data):
    return make_context(open_task(fetch(checkpoint)), Data(few_data))


@pytest.fixture(scope="module")
def pruned(checkpoint, few, tmp_path_factory):
    return apply(PruneVocabulary(), fetch(checkpoint), tmp_path_factory.mktemp("v") / "x", few)


def logits(artifact, texts):
    task = open_task(artifact)
    with open_session(artifact) as session:
        return np.stack(infer_all(session, task.encode(texts), 8, 512)["logits"])


def test_texts_of_kept_tokens_are_answered_as_before(checkpoint, pruned, few):
    texts = few.rows("train")["text"][:10]
    assert np.abs(logits(pruned, texts) - logits(fetch(checkpoint), texts)).max() < 1e-6
    tokens = json.loads((pruned.path / "tokenizer.json").read_text())["model"]["vocab"]
    notes = pruned.lineage[-1]["notes"]
    assert notes["tokens_after"] == len(tokens) < notes["tokens_before"]
    assert (
        pruned.config["vocab_size"] == len(tokens) == load_model(pruned).get_input_embeddings().num_embeddings
    )
    assert pruned.size_bytes < fetch(checkpoint).size_bytes


def test_it_says_what_was_lost(pruned):
    notes = pruned.lineage[-1]["notes"]
    assert (notes["checked_on"], notes["tokens_lost"], notes["texts_with_lost_tokens"]) == ("test", 2, 1)
    assert notes["texts_checked"] == 4


def test_unseen_text_is_answered_and_exported(pruned, few_data, tmp_path):
    texts = ["good bright nonsense", "\u4f60\u597d", ""]
    answers = logits(pruned, texts)
    assert np.isfinite(answers).all()
    own = make_context(open_task(pruned), Data(few_data))  # the loop opens the task of each artifact, too
    graph = apply(make("export-onnx", {}), pruned, tmp_path / "onnx", own)
    assert np.abs(logits(graph, texts) - answers).max() < 1e-3


def test_common_tokens_stay(checkpoint, few, tmp_path):
    made = apply(PruneVocabulary(common=20), fetch(checkpoint), tmp_path / "x", few)
    assert made.lineage[-1]["notes"]["tokens_after"] >= 20


def test_it_comes_after_distillation():
    with pytest.raises(RecipeError, match="'prune-vocabulary' after 'distill'"):
        Recipe.of([PruneVocabulary(), Distill(), "int8"])
    Recipe.of([Distill(), PruneVocabulary(), "int8"])


def test_compress_scores_it_on_texts_as_its_own_tokenizer_reads_them(checkpoint, few_data, tmp_path):
    plan = {"shapes": ("1xdata",), "rounds": 1, "processes": 1}
    recipe = Recipe.of([PruneVocabulary(), "export-onnx"], Gate(max_drop=None))
    report = compress(checkpoint, recipe, data=few_data, out=tmp_path / "x", **plan)
    row = report.row("prune-vocabulary")
    assert (row.agreement, row.score) == (1.0, report.baseline.score)
    assert all(other.verdict != "error" for other in report.rows)


def test_a_language_model_is_refused(few_data, tmp_path):
    source = fetch(decoder(tmp_path / "lm"))
    with pytest.raises(RecipeError, match="perplexity per token cannot be compared"):
        apply(PruneVocabulary(), source, tmp_path / "x", make_context(open_task(source), Data(few_data)))
