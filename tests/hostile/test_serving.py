"""The artifacts built to harm, given to a server: none starts it or takes over; the old model answers on."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from unittest import mock

import pytest

from optkit.serving.http.hotswap import Watcher
from tests.hostile.inline import run
from tests.hostile.test_artifacts import HARMS
from tests.serving.artifacts import artifact
from tests.serving.http.conftest import serving  # noqa: F401, a fixture
from tests.serving.http.test_hotswap import BODY, PATH, metric, replace


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return artifact(tmp_path_factory.mktemp("whole") / "model")


def harmed(name, whole, target):
    folder = Path(shutil.copytree(whole, target))
    HARMS[name](folder)
    return folder


@pytest.mark.parametrize("name", HARMS)
def test_no_server_starts(name, whole, place, monkeypatch, capfd):
    folder = harmed(name, whole, place / "in" / "model")
    listening = mock.Mock(side_effect=AssertionError("it listened"))
    monkeypatch.setattr("uvicorn.run", listening)
    code = run(["serve", folder, "--port", "0"], monkeypatch)
    said = capfd.readouterr().err
    assert code in (2, 4, 7), (code, said)
    assert "Traceback" not in said
    assert not listening.called
    assert not any((place / "work").iterdir())
    assert not (place / "canary").exists()


def test_none_takes_over(whole, place, serving, monkeypatch):  # noqa: F811
    watchers = []
    real = Watcher.__init__

    def kept(self, *arguments):
        real(self, *arguments)
        watchers.append(self)

    monkeypatch.setattr(Watcher, "__init__", kept)
    live = Path(shutil.copytree(whole, place / "live"))
    with serving({"m": live}, watch_s=3600) as client:
        before = client.post(PATH, json=BODY).json()
        for number, name in enumerate(HARMS, 1):
            replace(live, harmed(name, whole, place / "in"))
            watchers[0].look()
            assert metric(client, "refused") == number, name
            answer = client.post(PATH, json=BODY)
            assert (answer.status_code, answer.json()) == (200, before), name
        replace(live, artifact(place / "good", seed=2))
        watchers[0].look()
        deadline = time.monotonic() + 20
        while client.post(PATH, json=BODY).json() == before:
            assert time.monotonic() < deadline
        assert metric(client, "done") == 1
    assert not any((place / "work").iterdir())
    assert not (place / "canary").exists()
