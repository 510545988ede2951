"""Zero-shot image classification: every score and vector as transformers gives it, or refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from optkit import Gate, Recipe, compress, load, package
from optkit.benchmarking import stored_answers
from optkit.benchmarking.reference import compare
from optkit.benchmarking.reference.tasks import REFERENCES
from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, DataError, PassError, RecipeError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.passes.graph import load_graph
from optkit.passes.quantize_static import QuantizeStatic
from optkit.passes.sensitivity import scan
from optkit.passes.taken import refuse_encoder_decoder
from optkit.passes.tower_graphs import calibration_rows
from optkit.runtimes.base import infer_all, open_session
from optkit.runtimes.towers import IMAGE, TEXT, rows_of
from optkit.tasks.base import Columns, open_task, task_to_train, task_type
from tests.tasks.pictures import drawn_shapes
from tests.tasks.towers import served_towers, two_towers

NAME = "zero-shot-image-classification"
LABELS = ["film", "plot", "a bad cast", "good and bright " * 40]
KINDS = ("clip", "siglip")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images of other sizes and modes than the model's."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = []
    for i, (size, mode) in enumerate((((40, 20), "RGB"), ((16, 16), "L"), ((9, 50), "CMYK"))):
        image = Image.fromarray(random.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)
        paths.append(str(folder / f"{i}.{'jpg' if mode == 'CMYK' else 'png'}"))
        image.save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def asked(files):
    """Labels that are padded, too long, alone in a template of their own, as a text; what stands alone."""
    return [
        *((file, LABELS) for file in files),
        (files[0], LABELS[:2], "{0} or not {0}"),
        (files[0], "film, plot"),
        files[1],
        {"image": files[2]},
        {"text": "a fine film"},
        {"text": LABELS[-1]},
    ]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    home = tmp_path_factory.mktemp("models")
    return {kind: fetch(two_towers(home / kind, kind)) for kind in (*KINDS, "metaclip_2")}


@pytest.fixture(scope="module")
def compressed(models, tmp_path_factory):
    """The report of a compression of the CLIP with data, and what it made."""
    home = tmp_path_factory.mktemp("compressed")
    for split, count in (("train", 4), ("validation", 12)):
        for i, row in enumerate(drawn_shapes(count, seed=count)):
            place = home / "data" / split / row["category"][0]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(row["pixels"]).save(place / f"{i}.png")
    recipe = Recipe.of(["export-onnx"], Gate(max_drop=None))
    plan = {"shapes": ("1xdata",), "rounds": 1, "processes": 1, "threads": 1}
    report = compress(models["clip"].path, recipe, data=home / "data", out=home / "small", **plan)
    return report, Artifact.open(home / "small")


@pytest.fixture(scope="module")
def graphs(models, compressed, tmp_path_factory):
    context = make_context(open_task(models["siglip"]))
    folder = tmp_path_factory.mktemp("graphs") / "siglip"
    return {
        "clip": compressed[1],
        "siglip": apply(make("export-onnx", {}), models["siglip"], folder, context),
    }


@pytest.fixture(scope="module")
def task(models):
    return open_task(models["clip"])


def by_transformers(folder, asked):
    """Of each input the pipeline's scores by label, or the features of what stands alone."""
    import torch
    import transformers

    pipeline = transformers.pipeline(
        NAME, model=str(folder), tokenizer=str(folder), image_processor=str(folder)
    )
    siglip = "siglip" in pipeline.model.config.model_type
    cut = {} if siglip else {"tokenizer_kwargs": {"truncation": True, "max_length": 64}}
    answers = []
    for item in asked:
        if isinstance(item, tuple):
            labels = item[1].split(", ") if isinstance(item[1], str) else item[1]
            template = {"hypothesis_template": item[2]} if len(item) > 2 else {}
            read = pipeline.preprocess(item[0], labels, **template, **cut)  # its call drops tokenizer_kwargs
            answer = pipeline.postprocess(pipeline.forward(read))
            answers.append({x["label"]: x["score"] for x in answer})
            continue
        with torch.inference_mode():
            if isinstance(item, dict) and "text" in item:
                padding = {"padding": "max_length", "max_length": 64} if siglip else {"max_length": 64}
                ids = pipeline.tokenizer([item["text"]], truncation=True, return_tensors="pt", **padding)
                features = pipeline.model.get_text_features(**ids)
            else:
                image = transformers.image_utils.load_image(item["image"] if isinstance(item, dict) else item)
                features = pipeline.model.get_image_features(
                    **pipeline.image_processor(image, return_tensors="pt")
                )
        answers.append(features.pooler_output[0].numpy())
    return answers


def answered(artifact, asked):
    opened = open_task(artifact)
    with open_session(artifact) as session:
        return opened.decode(infer_all(session, opened.encode(asked), 4, 512))


@pytest.mark.parametrize("kind", [*KINDS, "metaclip_2"])
def test_every_score_is_the_pipelines(kind, models, graphs, asked):
    expected = by_transformers(models[kind].path, asked)
    for one in filter(None, (models[kind], graphs.get(kind))):
        for answer, right in zip(answered(one, asked), expected, strict=True):
            if isinstance(right, dict):
                assert dict(zip(answer.labels, answer.scores)) == pytest.approx(right, abs=1e-4)
                assert answer.scores == sorted(answer.scores, reverse=True)
            else:
                np.testing.assert_allclose(answer, right, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_baseline_reads_and_answers_by_transformers_alone(kind, models, asked):
    theirs, opened = REFERENCES[NAME](models[kind].path), open_task(models[kind])
    compare.provoked(theirs, opened)
    classified = asked[:5]
    encoded, rows = opened.encode(classified), theirs.rows(classified)
    compare.rows(rows, encoded.arrays, classified, theirs)
    outputs = theirs.outputs(rows, classified)
    compare.answers(theirs, opened, outputs, classified)
    with open_session(models[kind]) as session:
        ours = infer_all(session, encoded, 4, 512)
    assert compare.outputs(outputs, ours, compare.again(theirs, classified)) == []
    alone = theirs.outputs(theirs.rows(asked[5:]), asked[5:])
    with open_session(models[kind]) as session:
        ours = infer_all(session, opened.encode(asked[5:]), 4, 512)
    assert compare.outputs(alone, ours, compare.again(theirs, asked[5:])) == []
    assert not theirs.doubts


@pytest.mark.parametrize("kind", KINDS)
def test_both_towers_are_fused_and_become_int8(kind, graphs, asked, tmp_path):
    notes = graphs[kind].lineage[-1]["notes"]
    assert [notes[tower]["attention"] for tower in ("text", "vision")] == ["fused", "fused"]
    assert max(notes[tower]["max_difference"] for tower in ("text", "vision")) < 1e-3
    before, opened = answered(graphs[kind], asked), open_task(graphs[kind])
    samples = opened.encode(asked[:5])
    for name in ("quantize-dynamic", "quantize-static", "open-vino-int8"):
        if name == "open-vino-int8":
            pytest.importorskip("nncf")
        context = make_context(opened, calibration=samples)
        small = apply(make(name, {}), graphs[kind], tmp_path / name, context)
        notes = small.lineage[-1]["notes"]
        count = notes.get("quantized_matmuls", notes.get("quantized_operators", {}).get("MatMul"))
        assert count >= 8  # four a layer and a layer a tower
        for answer, right in zip(answered(small, asked), before, strict=True):
            if isinstance(right, np.ndarray):
                assert opened.alike(answer, right) > 0.8, name
            else:
                scores = dict(zip(right.labels, right.scores))
                assert dict(zip(answer.labels, answer.scores)) == pytest.approx(scores, abs=0.4)


def test_a_tower_may_stay_in_float(graphs, asked, tmp_path):
    """As the search for mixed precision asks for; a scan ranks the multiplies of both together."""
    opened = open_task(graphs["siglip"])
    samples = opened.encode(asked[:5])
    step = QuantizeStatic()
    names = {
        graph: step.chosen(load_graph(graphs["siglip"].path, graph), graphs["siglip"], graph)
        for graph in (TEXT, IMAGE)
    }
    ranked = [x for graph in (TEXT, IMAGE) for x in _scanned(graphs["siglip"], samples, names[graph], graph)]
    assert sorted(name for name, _ in ranked) == sorted([*names[TEXT], *names[IMAGE]])
    context = make_context(opened, calibration=samples)
    made = apply(QuantizeStatic(exclude=tuple(names[TEXT])), graphs["siglip"], tmp_path / "x", context)
    assert made.lineage[-1]["notes"]["quantized_matmuls"] == len(names[IMAGE])
    texts = [x for x in asked if isinstance(x, dict) and "text" in x]
    for answer, right in zip(answered(made, texts), answered(graphs["siglip"], texts), strict=True):
        np.testing.assert_array_equal(answer, right)
    rows = calibration_rows(samples, opened)[TEXT]  # labels are few, other texts reach further
    assert len(rows) > len(rows_of(samples)[TEXT]) + 10
    with pytest.raises(PassError, match="multiplies with constant weights to quantize of this graph"):
        everything = QuantizeStatic(exclude=(*names[TEXT], *names[IMAGE]))
        apply(everything, graphs["siglip"], tmp_path / "y", context)


def _scanned(artifact, samples, names, graph):
    return scan(artifact, rows_of(samples)[graph], names, file=graph)


def test_labels_go_through_the_text_tower_once(graphs, files):
    opened = open_task(graphs["clip"])
    with open_session(graphs["clip"]) as session:
        read, calls = session.text_tower, []
        session.text_tower = lambda feeds: calls.append(len(feeds["input_ids"])) or read(feeds)
        for _ in range(2):
            infer_all(session, opened.encode([(file, LABELS) for file in files]), 2, 512)
    assert calls == [len(LABELS)]


def test_data_to_graphs_to_answers(compressed, files):
    report, made = compressed
    assert (report.task, report.metric) == (NAME, "accuracy")
    assert report.rows[0].notes["reference"] == {"by": "transformers", "doubts": []}
    assert report.rows[-1].agreement == 1
    with load(made.path) as predictor:
        answer = predictor.predict_one((Path(files[0]).read_bytes(), ["disc", "square"]))
    assert set(answer.labels) == {"disc", "square"}
    _, checked = stored_answers.ask(made)
    assert checked.worst < 1e-4


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (("IMAGE", []), "1 to 1,000 candidate labels at position 1, received 0"),
        ({"image": "IMAGE", "candidate_labels": " , "}, "received 0"),
        (("IMAGE", ["a"]), "at least two candidate labels at position 1"),
        (("IMAGE", ["a", "b", "a"]), "received 0 and 2 of them equal"),
        (("IMAGE", ["a", "b"], "no place"), "template with {} once"),
        (("IMAGE", ["a", "b"], "{}", True), "no multi_label"),
        (("IMAGE",), "an image with its candidate labels at position 1, received tuple"),
        ({"candidate_labels": ["a", "b"]}, "an image with its candidate labels"),
        ({"text": 3}, "Expected a text at position 1, received int"),
        ((b"no image", ["a", "b"]), "Cannot read an image from bytes at position 1"),
        (("none.png", ["a", "b"]), "Cannot read an image from 'none.png' at position 1"),
        ((3, ["a", "b"]), "an image or its path at position 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(task, files, item, message):
    if isinstance(item, tuple):
        item = tuple(files[0] if x == "IMAGE" else x for x in item)
    else:
        item = {name: files[0] if x == "IMAGE" else x for name, x in item.items()}
    with pytest.raises(DataError, match=message):
        task.encode([(files[0], ["a", "b"]), item])


def test_rows_are_read_with_their_own_labels_or_those_of_the_data(task, files):
    rows = [{"image": file, "label": label} for file, label in zip(files, ("disc", "square", "disc"))]
    read = task.read(Dataset.from_list(rows), Columns())
    assert read.inputs[0] == (files[0], ["disc", "square"], "This is a photo of {}.", False)
    assert (read.references, read.sources) == ([["disc"], ["square"], ["disc"]], files)
    own = [{**row, "candidate_labels": "disc, square, none", "hypothesis_template": "a {}"} for row in rows]
    assert task.read(Dataset.from_list(own), Columns()).inputs[0][1:3] == (["disc", "square", "none"], "a {}")
    assert task.from_line("a.png\tdisc\tsquare") == ("a.png", ["disc", "square"])
    with pytest.raises(DataError, match="labels with a tab before each"):
        task.from_line("a.png")


def test_a_process_that_serves_loads_no_torch(tmp_path, files):
    model = served_towers(tmp_path / "m")
    code = (
        f"import sys, optkit\nmodel = optkit.load({str(model)!r})\n"
        f"print(model.predict([({files[0]!r}, ['film', 'plot']), {{'text': 'a film'}}])[0].label)\n"
        "assert not {'torch', 'transformers', 'datasets', 'onnx', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("film", "plot")


def test_a_damaged_artifact_and_what_triton_does_not_take_are_refused(tmp_path):
    folder = served_towers(tmp_path / "m")
    with pytest.raises(RecipeError, match="which has two towers"):
        package(folder, "triton", tmp_path / "triton")
    assert package(folder, "zip", tmp_path / "m.zip")
    shutil.copy(folder / "vision_model.onnx", folder / "text_model.onnx")
    with pytest.raises(CheckpointError, match="text_model.onnx in .* to give text_embeds"):
        open_session(Artifact(folder, {"format": "onnx"}))


def test_one_label_alone_is_scored_by_a_sigmoid(models, files):
    [answer] = answered(models["siglip"], [(files[0], ["film"])])
    assert 0 < answer.score < 1


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("clip", {"model_type": "altclip"}, "two towers of the kinds clip, metaclip_2, chinese_clip, siglip"),
        ("siglip", {"model_type": "siglip2"}, "two towers of the kinds"),
        ("siglip", {"text_config": {"max_position_embeddings": 16}}, "a SigLIP of 64 tokens.*one of 16"),
    ],
)
def test_models_that_are_read_otherwise_are_refused(kind, config, message, tmp_path):
    folder = served_towers(tmp_path / "m", kind)
    stated = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stated, **config}))
    with pytest.raises(CheckpointError, match=message) as refused:
        task_type(NAME).from_artifact(Artifact(folder, {"format": "onnx"}))
    assert refused.value.hint


def test_processors_are_followed_or_refused(tmp_path):
    """Every step as the baseline does it is compared in `compare.provoked`; here, what is not known."""
    folder = two_towers(tmp_path / "m", "clip", do_pad=True)
    with pytest.raises(CheckpointError, match="do_pad"):
        open_task(fetch(folder))


def test_passes_that_do_not_fit_are_refused_before_any_work(task):
    for name in ("prune", "distill", "tensorrt", "serve-torch"):
        with pytest.raises(PassError, match="has two towers") as refused:
            refuse_encoder_decoder(make(name, {}), task)
        assert "quantize-static" in refused.value.hint
    with pytest.raises(RecipeError, match="has no decoder"):
        make("quantize-dynamic", {"half": "encoder"}).check(None, task)
    with pytest.raises(RecipeError, match="cannot be fine-tuned") as untrained:
        task_to_train(NAME, Dataset.from_list([{"image": "a", "label": "b"}]), Columns())
    assert "OpenCLIP" in untrained.value.hint
