from __future__ import annotations

import base64

import numpy as np
import pytest

from optkit import load
from optkit.core.artifact import Artifact
from optkit.data import audio
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.tasks.base import open_task
from tests.data.test_audio import BROKEN
from tests.tasks.builders import sound_model

PATH = "/v1/audio/transcriptions"
#: No sounds, as bytes of a file.
FILES = {
    what: (content, message) for what, (content, message) in BROKEN.items() if isinstance(content, bytes)
}


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    source = Artifact.open(sound_model(folder / "m", writes="abcdefgh"))
    return apply(make("export-onnx", {}), source, folder / "onnx", make_context(open_task(source))).path


@pytest.fixture(scope="module")
def client(speech, serving):
    with serving({"speech": speech}) as client:
        yield client


def test_a_form_is_answered_in_the_shapes_of_openai(client, speech):
    content = audio.wav(audio.clip(3, 44100, 2.0), 44100)
    with load(speech) as predictor:
        expected = predictor.predict_one(content)

    def send(**fields):
        data = {"model": "speech", **fields}
        return client.post(PATH, files={"file": ("a.wav", content)}, data=data)

    assert send().json() == {"text": expected.text}
    assert send(response_format="text").text == expected.text + "\n"
    verbose = send(response_format="verbose_json", **{"timestamp_granularities[]": "word"}).json()
    assert (verbose["text"], verbose["duration"]) == (expected.text, pytest.approx(2.0, abs=1e-3))
    assert [w["word"] for w in verbose["words"]] == [word.text for word in expected.words] != []
    plain = client.post(
        "/v1/models/speech:predict", json={"instances": [{"b64": base64.b64encode(content).decode()}]}
    )
    assert plain.json()["predictions"][0]["text"] == expected.text


@pytest.mark.parametrize("what", FILES)
def test_what_is_no_sound_is_one_clear_error(what, client):
    content, message = FILES[what]
    answer = client.post(PATH, files={"file": ("a.wav", content)}, data={"model": "speech"})
    assert answer.status_code == 422, answer.text
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": "x"},
        {"response_format": "srt"},
        {"stream": "true"},
        {"timestamp_granularities[]": "segment"},
    ],
)
def test_fields_that_cannot_be_had_are_refused(fields, client):
    data = {"model": "speech", **fields} if fields else {}
    content = audio.wav(np.zeros(4000), 4000)
    answer = client.post(PATH, files={"file": ("a.wav", content)}, data=data)
    assert answer.status_code == 422, answer.text


def test_other_bodies_are_refused(client):
    assert client.post(PATH, json={"model": "speech"}).status_code == 415
    assert client.post(PATH, data={"model": "speech"}, files={"other": b"x"}).status_code == 422
    head = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post(PATH, content=b"--y nothing", headers=head).status_code == 422
    file = {"file": ("a.wav", b"x")}
    strange = client.post(
        PATH, files=file, data={"model": "speech"}, headers={"sec-fetch-site": "cross-site"}
    )
    assert strange.status_code == 415


def test_without_such_a_model_there_is_no_route(folders, serving):
    with serving({"m": folders["text-classification"]}) as client:
        assert client.post(PATH, files={"file": ("a.wav", b"x")}, data={"model": "m"}).status_code == 404
