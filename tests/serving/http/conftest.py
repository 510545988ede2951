"""A client of the whole application, in this process; servers of their own are in `processes`."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient

from optkit.serving.http.app import make_app
from optkit.serving.http.settings import ServeSettings
from tests.serving.artifacts import TASKS, artifact


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """An artifact of every task, by its name."""
    home = tmp_path_factory.mktemp("served")
    return {task: artifact(home / task, task) for task in TASKS}


@pytest.fixture(scope="session")
def serving():
    """serving({name: folder}, **settings) → a client, while it is open."""

    @contextmanager
    def open_client(models, **settings):
        quick = {"watch_s": 0, "drain_s": 0, **settings}
        app = make_app(ServeSettings({name: str(path) for name, path in models.items()}, **quick))
        with TestClient(app, raise_server_exceptions=False) as client:
            client.gate = app
            yield client

    return open_client


@pytest.fixture(scope="module")
def client(folders, serving):
    """All tasks, each under its own name."""
    with serving(folders) as client:
        yield client


@pytest.fixture
def fake(folders, serving, fake_runtime):
    """fake(**settings): one text classifier whose answers take as long as `options` say."""

    @contextmanager
    def open_fake(options, **settings):
        models = {"m": folders["text-classification"]}
        with serving(models, runtime="fake", options=options, **settings) as client:
            yield client

    return open_fake
