"""Pages' words with their boxes: tagged as transformers' own models tag them, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from starlette.testclient import TestClient

import optkit
from optkit.errors import CheckpointError, DataError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import infer_all, open_session
from optkit.serving.http.app import make_app
from optkit.serving.http.settings import ServeSettings
from optkit.tasks.base import Columns, open_task
from tests.conftest import WORDS, tiny, write_jsonl, write_tokenizer

#: As long as three windows of 64 tokens, one line of words below the other.
LONG = {"words": WORDS * 8, "boxes": [[i % 900, i, i % 900 + 50, i + 9] for i in range(len(WORDS) * 8)]}
PAGES = [
    {"words": ["the", "film"], "boxes": [[0, 0, 10, 10], [990, 980, 1000, 1000]]},
    {"words": ["a", "fine", "unknown"], "boxes": [[5, 7, 100, 30], [110, 7, 110, 7], [300, 2, 301, 900]]},
]


def tagger(folder, kind):
    """A tagger of pages with two layers, whose answers depend on boxes."""
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    write_tokenizer(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    special = {"sep_token": "[SEP]", "cls_token": "[CLS]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **special}))
    labels = {"id2label": {0: "O", 1: "B-a", 2: "I-a"}, "label2id": {"O": 0, "B-a": 1, "I-a": 2}}
    more = {
        "layoutlm": {},
        "lilt": {
            "max_position_embeddings": 70,
            "pad_token_id": 1,
            "hidden_size": 48,
            "channel_shrink_ratio": 2,
        },
        "bros": {"hidden_size": 64},
    }[kind]
    config = transformers.AutoConfig.for_model(kind, **{**tiny("bert"), **labels, **more})
    model = transformers.AutoModelForTokenClassification.from_config(config)
    for p in model.parameters():
        p.data.mul_(3.0) if p.dim() > 1 else None
    model.save_pretrained(str(folder))
    return folder


def by_transformers(folder, page):
    """The logits of each word, by the model and tokenizer of transformers."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = AutoModelForTokenClassification.from_pretrained(str(folder)).eval()
    encoding = AutoTokenizer.from_pretrained(str(folder))(
        page["words"], is_split_into_words=True, return_tensors="pt"
    )
    ids = encoding.word_ids()
    bbox = [[0] * 4, *(page["boxes"][word] for word in ids[1:-1]), [1000] * 4]
    if model.config.model_type == "bros":
        bbox = (np.array(bbox) / 1000).tolist()
    with torch.no_grad():
        logits = model(**encoding, bbox=torch.tensor([bbox])).logits[0].numpy()
    return np.stack([logits[ids.index(word)] for word in range(len(page["words"]))])


@pytest.mark.parametrize("kind", ["lilt", "bros"])  # LayoutLM's are compared in the test below
def test_logits_equal_transformers_in_torch_and_in_the_graph(kind, tmp_path):
    source = fetch(tagger(tmp_path / "m", kind))
    task = open_task(source)
    assert task.name == "layout-token-classification"
    graph = apply(make("export-onnx", {}), source, tmp_path / "onnx", make_context(task))
    for artifact in (source, graph):
        with open_session(artifact) as session:
            answers = infer_all(session, task.encode([*PAGES, LONG]), 8, 512)["logits"]
        assert len(answers[2]) == len(LONG["words"])
        for page, logits in zip(PAGES, answers):
            np.testing.assert_allclose(logits, by_transformers(source.path, page), atol=1e-4)
    moved = {**PAGES[0], "boxes": PAGES[0]["boxes"][::-1]}
    with open_session(graph) as session:
        [other] = infer_all(session, task.encode([moved]), 8, 512)["logits"]
    assert np.abs(other - answers[0]).max() > 1e-3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tagger(tmp_path_factory.mktemp("t") / "m", "layoutlm")


def test_compressed_for_openvino_and_served(folder, tmp_path):
    rows = [{**page, "ner_tags": ["B-a", "I-a", "O"][: len(page["words"])]} for page in PAGES * 4]
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", rows)
    out = tmp_path / "small"
    report = optkit.compress(
        *(folder, optkit.Recipe.of(["export-onnx", "open-vino"], optkit.Gate(max_drop=None))),
        **{"data": tmp_path / "data", "out": out, "shapes": ("1x8",), "rounds": 1, "processes": 1},
    )
    reference = report.rows[0].notes["reference"]
    assert reference["by"] == "transformers"
    assert all("tokenizer" in doubt for doubt in reference["doubts"]), reference
    assert all(row.agreement == 1 for row in report.rows)
    with optkit.load(out) as model:
        right = [model.task.describe(answer) for answer in model.predict(PAGES)]
        assert [model.task.describe(x) for x in model.predict([tuple(PAGES[0].values())])] == right[:1]
    with TestClient(make_app(ServeSettings({"m": str(out)}, watch_s=0, drain_s=0))) as client:
        answer = client.post("/v1/models/m:predict", json={"instances": PAGES})
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == right
        for wrong in ("a fine film", ["a"], {"words": ["a"]}, {"words": ["a"], "boxes": [[1, 2, 3]]}):
            assert client.post("/v1/models/m:predict", json={"instances": [wrong]}).status_code == 422
        wide = client.post(
            "/v1/models/m:predict", json={"instances": [{"words": ["a"], "boxes": [[1, 2, 3, 1001]]}]}
        )
        assert wide.status_code == 422
        assert "1001" not in wide.text or "0 to 1000" in wide.text
    (tmp_path / "pages.jsonl").write_text("".join(json.dumps(page) + "\n" for page in PAGES))
    from optkit.serving.offline import Job, predict_file

    predict_file(Job(str(out), str(tmp_path / "pages.jsonl"), str(tmp_path / "answers.jsonl")))
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [line["entities"] for line in lines] == [one["entities"] for one in right]


WRONG = {
    "a text": ("a fine film", "Expected .*boxes.* at position 0"),
    "words alone": (["a", "film"], "at position 0"),
    "one too few": ({"words": ["a", "film"], "boxes": [[0, 0, 1, 1]]}, "each of 2 words"),
    "three numbers": ({"words": ["a"], "boxes": [[0, 0, 1]]}, "four whole numbers for word 0"),
    "no whole ones": ({"words": ["a"], "boxes": [[0, 0, 0.5, 1]]}, "four whole numbers"),
    "no number": ({"words": ["a"], "boxes": [["0", 0, 1, 1]]}, "four whole numbers"),
    "too large": ({"words": ["a"], "boxes": [[0, 0, 1001, 1]]}, "0 to 1000"),
    "below 0": ({"words": ["a"], "boxes": [[-1, 0, 1, 1]]}, "0 to 1000"),
    "right of its right": ({"words": ["a"], "boxes": [[9, 0, 1, 1]]}, "left at most right"),
    "below its bottom": ({"words": ["a"], "boxes": [[0, 9, 1, 1]]}, "top at most bottom"),
    "infinite": ({"words": ["a"], "boxes": [[0, 9, float("inf"), 1]]}, "four whole numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_page_is_one_clear_error(name, folder):
    item, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        open_task(fetch(folder)).encode([item])


def test_rows_without_boxes_and_a_line_of_text_are_refused(folder):
    from datasets import Dataset

    task = open_task(fetch(folder))
    row = {"tokens": [["a"]], "ner_tags": [["O"]]}
    with pytest.raises(DataError, match="list of boxes"):
        task.read(Dataset.from_dict(row), Columns())
    with pytest.raises(DataError, match="word 0 at row 0"):
        task.read(Dataset.from_dict({**row, "bboxes": [[[3, 0, 1, 1]]]}), Columns())
    with pytest.raises(DataError, match="received a text"):
        task.from_line("a fine film")


def test_words_alone_are_no_task_for_it_and_boxes_none_for_others(folder, checkpoint):
    with pytest.raises(CheckpointError, match="where words stand") as refused:
        open_session(fetch(folder), task="token-classification")
    assert "layout-token-classification" in refused.value.hint
    with pytest.raises(CheckpointError, match="does not read where words stand"):
        open_session(fetch(checkpoint), task="layout-token-classification")


@pytest.mark.parametrize("kind", ["layoutlmv2", "layoutlmv3"])
def test_models_that_read_the_image_too_are_refused(kind, folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "m")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": kind}))
    with pytest.raises(CheckpointError, match="image beside its words"):
        fetch(copy)


def test_a_tokenizer_of_boxes_says_those_of_its_special_tokens(tmp_path):
    from tokenizers import pre_tokenizers
    from transformers import LayoutLMv3Tokenizer

    folder = tagger(tmp_path / "m", "lilt")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters]
    vocabulary = {token: i for i, token in enumerate(known)}
    LayoutLMv3Tokenizer(vocab=vocabulary, merges=[], model_max_length=64).save_pretrained(str(folder))
    task = open_task(fetch(folder))
    assert task.ends == (0, 0, 0, 0)
    encoded = task.encode(PAGES)
    assert encoded.arrays["bbox"][0][1].tolist() == PAGES[0]["boxes"][0]
    assert encoded.arrays["bbox"][0][-1].tolist() == [0] * 4
