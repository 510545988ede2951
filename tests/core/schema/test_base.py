from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from unittest.mock import Mock

from pydantic import ConfigDict, TypeAdapter

from optkit.core.schema.base import Known, check, check_value, without_plugins
from optkit.core.schema.model_card import stated_license
from optkit.models.signing import signed_files
from optkit.report.reading import from_json


@dataclass
class Figure:
    size: int


def test_plugins_of_pydantic_do_not_hear_what_a_file_holds(monkeypatch):
    class Plugin:
        def new_schema_validator(self, *given, **named):
            raise AssertionError("asked for a validator")

    monkeypatch.setattr("pydantic.plugin._loader._plugins", {"spy": Plugin()})

    class File(Known):
        size: int

    assert check(File, {"size": 1}, "file", ValueError).size == 1
    assert (
        check_value(
            TypeAdapter(list[File], config=ConfigDict(defer_build=True)), [{"size": 2}], "file", ValueError
        )[0].size
        == 2
    )


def test_reports_signed_names_and_licenses_are_read_without_plugins(monkeypatch, tmp_path):
    monkeypatch.setattr("pydantic.plugin._loader._plugins", {"spy": Mock(new_schema_validator=None)})
    assert from_json(Figure, {"size": 1}, "report.json") == Figure(1)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert stated_license(tmp_path) == "mit"
    assert [name for name in signed_files(tmp_path)] == ["README.md"]


def test_two_threads_leave_the_environment_as_it_was(monkeypatch):
    monkeypatch.delenv("PYDANTIC_DISABLE_PLUGINS", raising=False)
    inside, ended = threading.Event(), threading.Event()

    def build():
        with without_plugins():
            inside.set()
            ended.wait(10)

    other = threading.Thread(target=build)
    with without_plugins():
        other.start()
        inside.wait(0.1)  # in vain, unless both are in at once
    ended.set()
    other.join()
    assert "PYDANTIC_DISABLE_PLUGINS" not in os.environ
