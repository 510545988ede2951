"""The public `serve`: what a caller asks for becomes the settings of the server."""

from __future__ import annotations

import pytest

import optkit
from optkit.errors import RecipeError


@pytest.fixture
def asked(monkeypatch):
    """The settings of each call; nothing is served."""
    settings = []
    monkeypatch.setattr("optkit.serving.http.run.serve", settings.append)
    return settings


def test_every_parameter_reaches_its_setting(asked, tmp_path):
    optkit.serve(
        ["a=models/x", "models/y"], port=0, workers=2, timeout=3.0, watch=5.0, drain=0.5,
        api_key_file=tmp_path / "key", allowed_host=["a.example"], verify_key=tmp_path / "k.pem",
    )  # fmt: skip
    (settings,) = asked
    assert settings.models == {"a": "models/x", "y": "models/y"}
    assert (settings.port, settings.workers, settings.timeout_s) == (0, 2, 3.0)
    assert (settings.watch_s, settings.drain_s) == (5.0, 0.5)
    assert settings.api_key_file == str(tmp_path / "key")
    assert settings.verify_key == str(tmp_path / "k.pem")
    assert settings.allowed_hosts == ["a.example"]
    assert settings.tls_cert is None


@pytest.mark.parametrize("option", [["delay_ms=2.5", "spin=false", "hint=LATENCY"], None])
def test_options_of_the_runtime_are_pairs_or_a_mapping(option, asked):
    values = {"delay_ms": 2.5, "spin": False, "hint": "LATENCY"}
    optkit.serve(["models/x"], option=option or values)
    assert asked[0].options == values, "a value is JSON where it can be, else text"


@pytest.mark.parametrize("pair", ["delay_ms", "=3", "two words=3"])
def test_an_option_that_is_no_pair_is_refused(pair, asked):
    with pytest.raises(RecipeError, match="Expected --option KEY=VALUE"):
        optkit.serve(["models/x"], option=[pair])
    assert not asked
