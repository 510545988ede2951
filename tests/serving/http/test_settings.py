from __future__ import annotations

import pytest

from optkit.errors import RecipeError
from optkit.serving.http.settings import API_KEY, ServeSettings, named


def test_names_come_from_folders_or_are_given():
    assert named(["models/small/", "best=models/large"]) == {"small": "models/small/", "best": "models/large"}


@pytest.mark.parametrize(
    ("paths", "message"), [(["a/x", "b/x"], "Two models"), (["../my model"], "letters"), (["=x"], "letters")]
)
def test_names_that_cannot_be_served(paths, message):
    with pytest.raises(RecipeError, match=message):
        named(paths)


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"port": 70000},
        {"max_inputs": 300},
        {"max_delay_ms": -1},
        {"tls_cert": "x.pem"},
        {"timeout_s": 0},
        {"models": {}},
        {"models": {"a": "a", "b": "b"}, "shadow": "c"},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(RecipeError, match="Expected|takes one"):
        ServeSettings(**{"models": {"m": "m"}, **wrong})


def test_they_travel_as_json():
    settings = ServeSettings({"m": "x"}, options={"spinning": False}, streams=2)
    assert ServeSettings.from_json(settings.to_json()) == settings


def test_the_key_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(API_KEY, "from-environment")
    assert ServeSettings({"m": "x"}).api_key == "from-environment"
    file = tmp_path / "key"
    file.write_text("from-file\n")
    assert ServeSettings({"m": "x"}, api_key_file=str(file)).api_key == "from-file"
    file.write_text("\n")
    with pytest.raises(RecipeError, match="empty"):
        _ = ServeSettings({"m": "x"}, api_key_file=str(file)).api_key
    with pytest.raises(RecipeError, match="Cannot read"):
        _ = ServeSettings({"m": "x"}, api_key_file=str(tmp_path / "none")).api_key


def test_streams_share_the_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert "threads" not in ServeSettings({"m": "x"}).runtime_options
    assert ServeSettings({"m": "x"}, streams=2, workers=2).runtime_options["threads"] == 2
    assert ServeSettings({"m": "x"}, streams=2, threads=3).runtime_options["threads"] == 3
