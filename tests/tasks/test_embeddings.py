from __future__ import annotations

import json

import datasets
import numpy as np
import pytest

import optkit
from optkit.benchmarking import flops
from optkit.benchmarking.accuracy import load_outputs
from optkit.benchmarking.gate import Gate
from optkit.benchmarking.worker import Worker
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.models.checkpoint import fetch, load_model
from optkit.models.pooling import OUTPUT
from optkit.models.sentence_folder import MODES
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Columns, open_task
from optkit.tasks.retrieval import relevances
from tests.conftest import sentences, write_jsonl
from tests.tasks.builders import embedder

TEXTS = ["a fine film", "dull", "the plot is thin and the cast is not very good " * 3, ""]


#: How modules.json names the modules of the library.
LIBRARY = "sentence_transformers.models"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return embedder(tmp_path_factory.mktemp("e") / "plain")


@pytest.fixture(scope="module")
def sentence_folder(tmp_path_factory):
    return embedder(tmp_path_factory.mktemp("e") / "st", pooling={"pooling_mode_mean_tokens": True})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for split, count in (("train", 40), ("validation", 30)):
        first, second = sentences(count, seed=count), sentences(count, seed=count + 1)
        rows = [
            {"sentence1": a["text"], "sentence2": b["text"], "score": float(i % 6)}
            for i, (a, b) in enumerate(zip(first, second))
        ]
        write_jsonl(folder / f"{split}.jsonl", rows)
    return folder


def export(folder, tmp_path, **parameters):
    source = fetch(folder)
    return apply(make("export-onnx", parameters), source, tmp_path / "out", make_context(open_task(source)))


def vectors(artifact, texts):
    task = open_task(artifact)
    with open_session(artifact) as session:
        return np.stack(task.decode(infer_all(session, task.encode(texts), 8, 512)))


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_every_encoder_exports_with_fused_attention_and_equals_torch(kind, tmp_path):
    folder = embedder(tmp_path / kind, kind)
    made = export(folder, tmp_path)
    notes = made.lineage[-1]["notes"]
    assert notes["operators"]["MultiHeadAttention"] == 2
    assert notes["max_difference"] < 1e-4
    np.testing.assert_allclose(vectors(made, TEXTS), vectors(fetch(folder), TEXTS), atol=1e-4)


@pytest.mark.parametrize("width", [8, 99, None])
def test_a_vector_is_cut_to_truncate_dim_behind_the_normalisation(width, tmp_path):
    """In torch and in the graph; a width above the model's own changes nothing, as in the library."""
    folder = embedder(tmp_path / "st", pooling={"pooling_mode_mean_tokens": True})
    whole = vectors(fetch(folder), TEXTS)
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"truncate_dim": width}))
    for made in (fetch(folder), export(folder, tmp_path)):
        np.testing.assert_allclose(vectors(made, TEXTS), whole[:, :width], atol=1e-5)


@pytest.mark.parametrize("width", [0, -3, True, "16", 1.5])
def test_a_width_that_no_vector_has_is_refused(width, tmp_path):
    folder = embedder(tmp_path / "st", pooling={"pooling_mode_mean_tokens": True})
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"truncate_dim": width}))
    with pytest.raises(CheckpointError, match="truncate_dim"):
        open_task(fetch(folder))


@pytest.mark.parametrize("mode", MODES)
def test_pooling_equals_sentence_transformers(mode, tmp_path):
    """Each mode, in torch and in the exported graph, against the library that defines it."""
    library = pytest.importorskip("sentence_transformers")
    folder = embedder(tmp_path / "st", pooling={"pooling_mode": mode})
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors(fetch(folder), TEXTS), expected, atol=1e-4)
    np.testing.assert_allclose(vectors(export(folder, tmp_path), TEXTS), expected, atol=1e-4)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode": ["max", "cls", "lasttoken"]},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True, "pooling_mode_lasttoken": False},
    ],
)
def test_several_modes_are_concatenated_as_the_library_does(pooling, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    folder = embedder(tmp_path / "st", pooling=pooling, normalize=False)
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors(fetch(folder), TEXTS), expected, atol=1e-5)


def test_a_plain_encoder_is_pooled_by_the_mean_and_not_normalised(plain):
    import torch

    task, model = open_task(fetch(plain)), load_model(plain)
    feeds = task.encode(["a fine film"]).batch([0])
    with torch.inference_mode():
        tokens = model.transformer(**{k: torch.from_numpy(v) for k, v in feeds.items()})[0]
    np.testing.assert_allclose(vectors(fetch(plain), ["a fine film"])[0], tokens[0].mean(0), atol=1e-5)


def test_the_folders_own_limit_and_normalisation(sentence_folder):
    task = open_task(fetch(sentence_folder))
    assert task.encode(["film " * 50]).lengths.tolist() == [16]
    lengths = np.linalg.norm(vectors(fetch(sentence_folder), TEXTS), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_a_prompt_and_lower_case_are_applied(sentence_folder, tmp_path):
    import shutil

    folder = shutil.copytree(sentence_folder, tmp_path / "st")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "the film "}, "default_prompt_name": "query"})
    )
    ids = open_task(fetch(folder)).encode(["PLOT"]).arrays["input_ids"][0]
    assert (
        ids.tolist()
        == open_task(fetch(sentence_folder)).encode(["the film plot"]).arrays["input_ids"][0].tolist()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("modules.json", [{"type": "sentence_transformers.models.Transformer"}]),
            "Expected a Pooling module",
        ),
        (
            ("modules.json", [{"type": f"{LIBRARY}.{kind}"} for kind in ("Transformer", "LSTM")]),
            r"at place 1 .*models\.LSTM'",
        ),
        (("modules.json", {"a": 1}), "Expected a valid list"),
        (("1_Pooling/config.json", {"pooling_mode": "median"}), "received 'median'"),
    ],
)
def test_what_cannot_be_done_is_refused(sentence_folder, tmp_path, change, message):
    import shutil

    folder = shutil.copytree(sentence_folder, tmp_path / "st")
    (folder / change[0]).write_text(json.dumps(change[1]))
    with pytest.raises(CheckpointError, match=message):
        open_task(fetch(folder))


def test_the_settings_travel_and_the_result_is_verified(sentence_folder, tmp_path):
    made = export(sentence_folder, tmp_path)
    assert "1_Pooling/config.json" in made.manifest["files"]
    Artifact.open(made.path).verify()
    (made.path / "1_Pooling" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="1_Pooling/config.json"):
        made.verify()


def test_other_pooling_is_another_checkpoint(tmp_path):
    one, other = (embedder(tmp_path / mode, pooling={"pooling_mode": mode}) for mode in ("cls", "max"))
    assert Artifact.open(one).fingerprint() != Artifact.open(other).fingerprint()


def table(**columns):
    return datasets.Dataset.from_dict(columns)


def outputs_of(pairs):
    return {OUTPUT: [np.array(v, dtype=np.float32) for pair in pairs for v in pair]}


def test_pairs_are_flattened_and_put_together_again(plain):
    task = open_task(fetch(plain))
    read = task.read(
        table(text=["a film", "dull"], text_pair=["the plot", "good"], label=[5, 0.5]), Columns()
    )
    assert read.inputs == ["a film", "the plot", "dull", "good"]
    assert read.references == [5.0, 0.5]
    assert len(read.encoded) == 4
    answers = task.answers(outputs_of([([2, 0], [3, 0]), ([0, 1], [4, 0])]))
    np.testing.assert_allclose(answers[:, 0], [[1, 0], [0, 1]])
    assert answers.shape == (2, 2, 2)


def test_spearman_of_the_cosines(plain):
    task = open_task(fetch(plain))
    answers = task.answers(outputs_of([([1, 0], [1, 0]), ([1, 0], [1, 1]), ([1, 0], [0, 1])]))
    assert task.score(answers, [5.0, 3.0, 0.0]) == pytest.approx(1.0)
    assert task.score(answers, [0.0, 3.0, 5.0]) == pytest.approx(-1.0)
    assert task.score(answers, [3.0, 5.0, 0.0]) == pytest.approx(0.5)
    assert task.outcomes(answers, [5.0, 3.0, 0.0]) is None


def test_recall_counts_matching_pairs_whose_second_text_is_near(plain):
    task = open_task(fetch(plain), metric="recall@1")
    # The second query is nearer to the first document than to its own; the third pair is no match.
    answers = task.answers(outputs_of([([1, 0], [1, 0.1]), ([1, 0], [0, 1]), ([0, 1], [1, 0.2])]))
    references = relevances("abc", "xyz", [5.0, 4.0, 3.9])
    assert task.outcomes(answers, references).tolist() == [1, 0]
    assert task.score(answers, references) == 0.5
    assert open_task(fetch(plain), metric="recall@5").score(answers, references) == 1.0


def test_recall_needs_no_scores_and_spearman_does(plain):
    rows = table(query=["a film"], passage=["the plot"])
    read = open_task(fetch(plain), metric="recall@1").read(rows, Columns())
    assert read.references == relevances(["a film"], ["the plot"], [1.0])
    with pytest.raises(DataError, match="which column holds the similarity") as refused:
        open_task(fetch(plain)).read(rows, Columns())
    assert "--metric ndcg@10" in refused.value.hint


@pytest.mark.parametrize("score", [None, "high", float("nan")])
def test_a_score_that_is_no_number_names_the_row(plain, score):
    rows = table(text=["a"], text_pair=["b"], label=[score])
    with pytest.raises(DataError, match="row 0"):
        open_task(fetch(plain)).read(rows, Columns())


def test_agreement_is_the_mean_cosine(plain):
    task = open_task(fetch(plain))
    a = task.answers(outputs_of([([1, 0], [1, 0])]))
    b = task.answers(outputs_of([([1, 0], [0, 1])]))
    assert task.agreement(a, a) == pytest.approx(1.0)
    assert task.agreement(a, b) == pytest.approx(0.5)


def test_two_vectors_are_alike_by_their_cosine(plain):
    task = open_task(fetch(plain))
    a, b, nothing = np.array([1.0, 0]), np.array([3.0, 4.0]), np.zeros(2)
    assert task.alike(a, b) == pytest.approx(0.6)
    assert task.alike(a, -b) == 0
    assert (task.alike(nothing, nothing), task.alike(nothing, a)) == (1, 0)


def test_an_unknown_metric(plain):
    with pytest.raises(RecipeError, match="does not fit embeddings"):
        open_task(fetch(plain), metric="accuracy")


def test_what_is_no_text_is_refused(plain):
    with pytest.raises(DataError, match="position 1"):
        open_task(fetch(plain)).encode(["a", ("b", "c")])


def test_compress_bench_and_predict(sentence_folder, pairs, tmp_path):
    """The whole way, gate included; the result is still a sentence-transformers folder, and opens here."""
    from typer.testing import CliRunner

    from optkit.cli import app

    report = optkit.compress(
        sentence_folder,
        optkit.Recipe.int8(),
        data=pairs,
        out=tmp_path / "out",
        shapes=("1xdata",),
        rounds=1,
        processes=1,
    )
    assert report.task == "embeddings"
    assert report.metric == "spearman"
    assert all(row.agreement > 0.9 and row.flips == [] for row in report.rows)
    assert (tmp_path / "out" / "modules.json").exists()
    with optkit.load(tmp_path / "out") as model:
        found = model.predict(TEXTS)
    assert [v.shape for v in found] == [(32,)] * 4
    assert all(v.dtype == np.float32 for v in found)
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "out"), "a fine film", "--json"])
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(json.loads(done.stdout)["vector"], found[0], atol=0.05)
    timed = optkit.bench([str(tmp_path / "out")], data=pairs, shapes=["1xdata", "1xtext"], **PLAN)
    assert timed.rows[0].verdict != "error"


def of_architecture(folder, name):
    """An encoder whose config.json tells another task, or none."""
    embedder(folder)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": [name]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "BertForSequenceClassification"])
def test_the_task_asked_for_reaches_torch_and_the_whole_way_from_text(architecture, tmp_path):
    folder = of_architecture(tmp_path / "encoder", architecture)
    open_task(fetch(folder), "embeddings").encode(TEXTS).save(tmp_path / "examples.npz")
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    worker = Worker()
    worker.load(str(folder), "torch", {"task": "embeddings", "threads": 1})
    worker.attach(str(tmp_path / "examples.npz"), str(tmp_path / "texts.json"))
    worker.evaluate(str(tmp_path / "outputs.npz"), 8, 512)
    assert [v.shape for v in load_outputs(tmp_path / "outputs.npz")[OUTPUT]] == [(32,)] * 4
    assert len(worker.time(1, "text", 1)) == 4
    [counted] = flops.of(fetch(folder), [(1, 8)], "embeddings")
    assert counted.operations > 0


def test_compress_heeds_the_task_asked_for(pairs, tmp_path):
    report = optkit.compress(
        of_architecture(tmp_path / "encoder", "BertForMaskedLM"),
        optkit.Recipe.of([make("export-onnx", {})], Gate(max_drop=None)),
        data=pairs,
        out=tmp_path / "out",
        task="embeddings",
        shapes=("1xdata",),
        rounds=1,
        processes=1,
        threads=1,
    )
    assert [report.task, report.rows[0].name] == ["embeddings", "torch-fp32"]
    assert all(row.latency and row.agreement > 0.99 for row in report.rows)


PLAN = {"rounds": 1, "processes": 1, "warmup": 0}
