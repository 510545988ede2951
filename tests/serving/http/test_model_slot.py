"""Models of different runtimes in one server: which settings reach which of them."""

from __future__ import annotations

import json

import pytest

from optkit.errors import RecipeError
from tests.serving.artifacts import artifact

pytestmark = pytest.mark.usefixtures("fake_runtime")


@pytest.fixture
def faked(tmp_path):
    """A text classifier whose manifest asks for the fake runtime."""
    folder = artifact(tmp_path / "faked")
    manifest = json.loads((folder / "optkit.json").read_text())
    (folder / "optkit.json").write_text(json.dumps({**manifest, "runtime": {"name": "fake"}}))
    return folder


def test_each_model_takes_the_settings_that_its_runtime_has(folders, faked, serving):
    models = {"a": folders["text-classification"], "b": faked}
    with serving(models, options={"spinning": False, "delay_ms": 1}) as client:
        for name in models:
            body = {"instances": ["a fine film"]}
            assert client.post(f"/v1/models/{name}:predict", json=body).status_code == 200


def test_a_setting_that_no_runtime_has_is_refused(folders, serving):
    with pytest.raises(RecipeError, match="spining") as raised:
        with serving({"m": folders["text-classification"]}, options={"spining": False}):
            pass
    assert "'spinning'" in raised.value.hint
