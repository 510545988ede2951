from __future__ import annotations

import base64

import pytest

from optkit import load
from tests.tasks.towers import PICTURE, served_towers

TASK, TEXT, LABELS = "zero-shot-classification", "a fine film", ["film", "cast", "plot"]
PATHS = ("/zero-shot-classification", f"/models/{TASK}")


@pytest.fixture(scope="module")
def predictor(folders):
    with load(folders[TASK]) as predictor:
        yield predictor


def asked(client, path=PATHS[0], inputs=TEXT, **parameters):
    return client.post(
        path, json={"inputs": inputs, "parameters": {"candidate_labels": LABELS, **parameters}}
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("more", [{}, {"multi_label": True, "hypothesis_template": "the {} is good"}])
def test_the_shape_of_the_hubs_clients(client, predictor, path, more):
    hub = pytest.importorskip("huggingface_hub")
    answer = asked(client, path, **more)
    assert answer.status_code == 200, answer.text
    found = hub.ZeroShotClassificationOutputElement.parse_obj_as_list(answer.json())
    expected = predictor.predict_one({"text": TEXT, "candidate_labels": LABELS, **more})
    assert [x.label for x in found] == expected.labels
    assert [x.score for x in found] == pytest.approx(expected.scores, abs=1e-5)
    several = asked(client, path, [TEXT, "dull"], **more).json()
    assert [len(x) for x in several] == [3, 3]
    assert several[0][0]["score"] == pytest.approx(expected.score, abs=1e-5)


def test_the_models_own_routes_give_the_same(client, predictor):
    expected = predictor.predict_one((TEXT, LABELS, "a {}"))
    instance = {"text": TEXT, "candidate_labels": LABELS, "hypothesis_template": "a {}"}
    body = {
        "instances": [instance, {"text": TEXT, "candidate_labels": ",".join(LABELS), "multi_label": True}]
    }
    first, second = client.post(f"/v1/models/{TASK}:predict", json=body).json()["predictions"]
    assert (first["labels"], first["scores"]) == (expected.labels, pytest.approx(expected.scores, abs=1e-5))
    tensors = [
        {"name": n, "shape": [1], "datatype": "BYTES", "data": [text]}
        for n, text in (("text", TEXT), ("candidate_labels", "film,cast,plot"), ("multi_label", "true"))
    ]
    answer = client.post(f"/v2/models/{TASK}/infer", json={"inputs": tensors}).json()
    outputs = {x["name"]: x["data"] for x in answer["outputs"]}
    assert outputs["label"] == second["labels"][:1]
    assert outputs["score"] == pytest.approx(second["scores"][:1], abs=1e-5)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"candidate_labels": []}, "parameters.candidate_labels: List should have at least 1 item"),
        ({"candidate_labels": ["a"]}, "at least two candidate labels"),
        ({"candidate_labels": ["a", "a"]}, "equal"),
        ({"candidate_labels": [str(i) for i in range(10_000)]}, "128"),
        ({"candidate_labels": None}, "candidate_labels"),
        ({"hypothesis_template": "nothing"}, "hypothesis template"),
        ({"hypothesis_template": "{0.__class__.__mro__}"}, "hypothesis template"),
        ({"multi_label": "perhaps"}, "multi_label"),
    ],
)
def test_what_cannot_be_asked_is_refused(client, parameters, said):
    answer = asked(client, **parameters)
    assert (answer.status_code, said in answer.text) == (422, True), answer.text
    assert "perhaps" not in answer.text


def test_labels_of_all_texts_count(client):
    answer = asked(client, inputs=[TEXT] * 50)
    assert (answer.status_code, "at most 128 candidate labels" in answer.text) == (422, True)


def test_without_such_a_model_there_is_no_route(folders, serving):
    with serving({"m": folders["text-classification"]}) as client:
        assert asked(client).status_code == 404


@pytest.mark.parametrize("path", ["/zero-shot-image-classification", "/models/clip"])
def test_images_in_the_shape_of_the_hubs_clients(path, serving, tmp_path):
    hub, folder = pytest.importorskip("huggingface_hub"), served_towers(tmp_path / "clip")
    with serving({"clip": folder}) as client, load(folder) as predictor:
        answer = asked(client, path, PICTURE, hypothesis_template="a {}")
        assert answer.status_code == 200, answer.text
        found = hub.ZeroShotImageClassificationOutputElement.parse_obj_as_list(answer.json())
        expected = predictor.predict_one((base64.b64decode(PICTURE), LABELS, "a {}"))
        assert [x.label for x in found] == expected.labels
        assert [x.score for x in found] == pytest.approx(expected.scores, abs=1e-5)
        assert [len(x) for x in asked(client, path, [PICTURE] * 2).json()] == [3, 3]
        instance = {"image": {"b64": PICTURE}, "candidate_labels": LABELS, "hypothesis_template": "a {}"}
        [same] = client.post("/v1/models/clip:predict", json={"instances": [instance]}).json()["predictions"]
        assert (same["labels"], same["scores"]) == (expected.labels, pytest.approx(expected.scores, abs=1e-5))
        tensors = [
            {"name": n, "shape": [1], "datatype": "BYTES", "data": [text]}
            for n, text in (("image", PICTURE), ("candidate_labels", ",".join(LABELS)))
        ]
        told = client.post("/v2/models/clip/infer", json={"inputs": tensors}).json()["outputs"]
        assert {x["name"]: x["data"] for x in told}["label"][0] in LABELS
        for change, said in (
            ({"candidate_labels": []}, "candidate_labels"),
            ({"candidate_labels": ["a"]}, "at least two candidate labels"),
            ({"multi_label": True}, "no multi_label"),
        ):
            wrong = asked(client, path, PICTURE, **change)
            assert (wrong.status_code, said in wrong.text) == (422, True), wrong.text
        broken = asked(client, path, "AAAA")
        assert (broken.status_code, "Cannot read an image" in broken.text) == (422, True), broken.text
