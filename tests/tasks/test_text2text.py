"""Text to text: read, scored, compressed half by half, served and streamed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset

from optkit import Artifact, Gate, Recipe, compress, load, predict
from optkit.compression.steps import AnyOf
from optkit.errors import CheckpointError, DataError, PassError, RecipeError
from optkit.passes.base import make
from optkit.passes.taken import refuse_encoder_decoder
from optkit.tasks import text_metrics
from optkit.tasks.base import Columns, open_task, task_type
from optkit.training.finetune import FinetuneSettings, finetune
from tests.conftest import sentences, write_jsonl
from tests.seq2seq import checkpoint

QUICK = {"shapes": ("1x8",), "rounds": 1, "processes": 1}
ANY = Gate(max_drop=None)


def write_rows(folder, count=12):
    folder.mkdir()
    for split, seed in (("train", 1), ("validation", 2)):
        rows = [
            {"document": row["text"], "summary": " ".join(row["text"].split()[:3])}
            for row in sentences(count, seed=seed)
        ]
        write_jsonl(folder / f"{split}.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A T5 compressed by each half and by both, and its report."""
    folder = tmp_path_factory.mktemp("text2text")
    source, data = checkpoint("T5", folder / "t5", beams=1), write_rows(folder / "data")
    halves = [(make("quantize-dynamic", {"half": half}),) for half in ("encoder", "decoder", "both")]
    static = (make("quantize-static", {}),)
    recipe = Recipe.of([make("export-onnx", {}), AnyOf((*halves, static))], ANY)
    report = compress(source, recipe, data=data, out=folder / "small", **QUICK)
    return folder, report


def test_each_half_is_quantized_scored_and_gated(made):
    _, report = made
    baseline, tuned, *halves = report.rows
    assert (report.task, report.metric) == ("text2text", "rougeL")
    assert baseline.notes["reference"]["by"] == "transformers"
    assert tuned.score == baseline.score
    assert tuned.agreement == 1
    assert [row.precision for row in halves if row.latency] == ["int8"] * 3
    encoder, decoder, both = [row for row in halves if row.latency]
    assert both.notes["quantized_matmuls"] == sum(r.notes["quantized_matmuls"] for r in (encoder, decoder))
    assert both.size_bytes < min(encoder.size_bytes, decoder.size_bytes) < tuned.size_bytes
    assert all(row.drop.low <= row.drop.value <= row.drop.high for row in (encoder, decoder, both))
    assert both.probes["int8"]["int8_multiplies"] == both.notes["quantized_matmuls"]
    (failed,) = [row for row in halves if not row.latency]
    assert "which has an encoder and a decoder" in " ".join(failed.reasons)


def test_a_smaller_checkpoint_learns_from_its_texts(made, tmp_path):
    import transformers

    folder, _ = made
    task = open_task(Artifact.open(folder / "t5"))
    for step in ("prune", "take-layers", "distill"):
        with pytest.raises(PassError, match="has an encoder and a decoder") as refused:
            refuse_encoder_decoder(make(step, {}), task)
        assert "--keep source" in refused.value.hint
        assert "optkit finetune SMALLER" in refused.value.hint
    rows = [{"source": row["text"]} for row in sentences(24, seed=5)]
    (tmp_path / "data").mkdir()
    predict(
        folder / "small",
        input=write_jsonl(tmp_path / "inputs.jsonl", rows),
        keep="source",
        output=tmp_path / "data" / "train.jsonl",
    )
    config = transformers.AutoConfig.from_pretrained(str(folder / "t5"), num_layers=1, num_decoder_layers=1)
    transformers.T5ForConditionalGeneration(config).save_pretrained(str(tmp_path / "smaller"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "smaller" / name).write_bytes((folder / "t5" / name).read_bytes())
    tuned = finetune(
        *(tmp_path / "smaller", tmp_path / "data", tmp_path / "tuned"),
        FinetuneSettings(epochs=1, batch=8, max_length=None),
        Columns(label="text"),
        task="text2text",
    )
    assert tuned.config["num_layers"] == 1
    assert tuned.lineage[-1]["notes"]["metric"] == "neg_perplexity"


def test_it_answers_without_torch_and_streams_what_it_predicts(made):
    folder, _ = made
    texts, long = ["a fine film", "the plot is thin", "good " * 9, ""], "good " * 200
    with load(folder / "small") as predictor:
        answers = predictor.predict(texts)
        assert answers[:2] == predictor.predict(texts[:2])
        for text, whole in zip(texts, answers):
            *pieces, _ = [*written(predictor, text)]
            assert "".join(pieces) == whole.text
        assert predictor.task.encode([*texts, long]).truncated == 1  # of data it is counted
        for ask in (lambda: predictor.predict([*texts, long]), lambda: next(predictor.generate(long))):
            with pytest.raises(DataError, match=r"at most 64 tokens at position \d, received 201"):
                ask()
        short = predictor.predict(texts, max_new_tokens=2)
        assert all(answer.tokens <= 2 for answer in short)
        assert predictor.predict(texts, temperature=0.0, seed=4) == answers
        with pytest.raises(RecipeError, match="not drawn"):
            predictor.predict(texts, temperature=0.7)
        with pytest.raises(RecipeError, match="num_beam"):
            predictor.predict(texts, num_beams=2)
        with pytest.raises(DataError, match="position 1"):
            predictor.predict(["a", 3])
    with pytest.raises(RecipeError, match="bucket"):
        load(folder / "small", bucket=8)


def written(predictor, text):
    """The pieces of a stream, and last what it returns."""
    pieces = predictor.generate(text)
    while True:
        try:
            yield next(pieces)
        except StopIteration as end:
            yield end.value
            return


def test_it_is_served_over_http(made):
    from starlette.testclient import TestClient

    from optkit.serving.http.app import make_app
    from optkit.serving.http.settings import ServeSettings

    folder, _ = made
    with load(folder / "small") as predictor:
        expected = predictor.predict(["a fine film", "dull"])
    app = make_app(ServeSettings({"t5": str(folder / "small")}, watch_s=0, drain_s=0))
    with TestClient(app) as client:
        asked = {"model": "t5", "prompt": ["a fine film", "dull"]}
        choices = client.post("/v1/completions", json=asked).json()["choices"]
        assert [choice["text"] for choice in choices] == [answer.text for answer in expected]
        stream = client.post("/v1/completions", json={**asked, "prompt": "dull", "stream": True}).text
        events = [json.loads(e.removeprefix("data: ")) for e in stream.split("\n\n")[:-2]]
        assert "".join(event["choices"][0]["text"] for event in events) == expected[1].text
        drawn = client.post("/v1/completions", json={**asked, "temperature": 0.8})
        assert (drawn.status_code, "not drawn" in drawn.text) == (422, True)
        for stream in (False, True):
            cut = client.post("/v1/completions", json={**asked, "prompt": "good " * 200, "stream": stream})
            assert (cut.status_code, "at most 64 tokens" in cut.text) == (422, True), cut.text
        found = client.post("/v1/models/t5:predict", json={"instances": ["dull"]}).json()["predictions"]
        assert found == [
            {"text": expected[1].text, "tokens": expected[1].tokens, "finished": expected[1].finished}
        ]


def test_a_copy_of_the_beginning_is_learned(tmp_path):
    source, data = checkpoint("T5", tmp_path / "t5"), write_rows(tmp_path / "data", 64)
    settings = FinetuneSettings(epochs=6, batch=8, learning_rate=3e-3, max_length=None)
    tuned = finetune(source, data, tmp_path / "tuned", settings)
    notes = tuned.lineage[-1]["notes"]
    assert (tuned.task, notes["metric"]) == ("text2text", "neg_perplexity")
    assert notes["history"][-1]["score"] > 1.5 * notes["history"][0]["score"]  # negative: nearer to 0
    assert (tuned.path / "generation_config.json").exists()


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([{"document": "a"}], Columns(), "target"),
        ([{"translation": {"en": "a", "de": "b"}}], Columns(), "by language .en, de."),
        ([{"document": "a", "summary": None}], Columns(), "row 0"),
        ([{"document": "a", "other": "b"}], Columns(label="none"), "none"),
    ],
)
def test_rows_that_lack_a_side_are_refused(rows, columns, message, tmp_path):
    task = open_task(Artifact.open(checkpoint("T5", tmp_path / "t5")))
    with pytest.raises(DataError, match=message):
        task.read(Dataset.from_list(rows), columns)


def test_a_prefix_stands_before_every_source(tmp_path):
    folder = checkpoint("T5", tmp_path / "t5")
    config = json.loads((folder / "config.json").read_text())
    plain = open_task(Artifact.open(folder))
    (folder / "config.json").write_text(json.dumps({**config, "prefix": "good "}))
    task = open_task(Artifact.open(folder))
    own, expected = task.encode(["a film"]), plain.encode(["good a film"])
    np.testing.assert_array_equal(own.arrays["input_ids"][0], expected.arrays["input_ids"][0])


def test_passes_that_do_not_take_it_refuse_before_any_work(tmp_path):
    source, data = checkpoint("T5", tmp_path / "t5"), write_rows(tmp_path / "data")
    for name in ("prune", "open-vino", "serve-torch"):
        steps = [make(name, {})] if name != "open-vino" else [make("export-onnx", {}), make(name, {})]
        with pytest.raises(PassError, match=f"{name} does not take a model for text2text"):
            compress(source, Recipe.of(steps, ANY), data=data, out=tmp_path / "out", **QUICK)
        assert not (tmp_path / "out").exists()


def test_a_model_of_another_kind_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="none of the models that write a text from a text"):
        task_type("text2text").check_architecture({"model_type": "led"}, "LEDForConditionalGeneration")


TEXTS = ["the cat sat on the mat", "", "a dog", "über die Brücke gehen wir"]
WANTED = ["the cats sat on a mat", "nothing", "a dog", "wir gehen über die Brücke"]


def test_scores_are_those_of_the_fields_libraries():
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    for name in text_metrics.ROUGE:
        scorer = RougeScorer([name], use_stemmer=True)
        each = [scorer.score(b, a)[name].fmeasure for a, b in zip(TEXTS, WANTED)]
        assert text_metrics.score(name, TEXTS, WANTED) == pytest.approx(np.mean(each))
    for name, metric in (("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF())):
        expected = metric.corpus_score(TEXTS, [WANTED]).score / 100
        assert text_metrics.score(name, TEXTS, WANTED) == pytest.approx(expected)
    with pytest.raises(DataError, match="Latin"):
        text_metrics.check("rougeL", ["a cat", "猫"])
    assert text_metrics.score("chrf", ["猫"], ["猫"]) == 1
