from __future__ import annotations

from pydantic import ConfigDict, TypeAdapter

from optkit.core.schema.base import Known, check, check_value


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
