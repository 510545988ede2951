"""`Registry`: lazy, open to entry points, helpful about unknown names."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from importlib.metadata import EntryPoint
from pkgutil import iter_modules

import pytest

import optkit.passes
import optkit.tasks
from optkit.core.registry import Registry
from optkit.errors import RecipeError
from optkit.passes import PASSES
from optkit.passes.base import Pass
from optkit.tasks import TASKS


def test_every_pass_and_task_there_is_stands_in_its_table():
    modules = [import_module(f"optkit.passes.{m.name}") for m in iter_modules(optkit.passes.__path__)]
    classes = {
        c
        for m in modules
        for c in vars(m).values()
        if inspect.isclass(c)
        and issubclass(c, Pass)
        and not inspect.isabstract(c)
        and c.__module__ == m.__name__
    }
    assert {name: cls for name, cls in PASSES.items()} == {cls.name(): cls for cls in classes}
    modules = [import_module(f"optkit.tasks.{m.name}") for m in iter_modules(optkit.tasks.__path__)]
    tasks = {m.TASK for m in modules if hasattr(m, "TASK")}
    assert set(TASKS.values()) == tasks
    assert all(TASKS[name].name == name for name in TASKS)


def test_to_list_the_names_imports_none_of_them():
    code = "import sys; from optkit.passes import PASSES; list(PASSES); print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "optkit.passes.prune" not in loaded
    assert "numpy" not in loaded


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(RecipeError, match="Unknown pass 'prun'") as error:
        PASSES["prun"]
    assert "prune" in str(error.value.hint)
    assert "prun" not in PASSES
    assert 3 not in PASSES
    assert ["prune"] not in PASSES


def test_another_package_adds_its_own_and_replaces_none(monkeypatch):
    points = [
        EntryPoint("counter", "collections:Counter", "a.group"),
        EntryPoint("own", "collections:Counter", "a.group"),
    ]
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [p for p in points if p.group == group]
    )
    registry = Registry("thing", "a.group", {"own": "collections:OrderedDict"})
    assert list(registry) == ["counter", "own"]
    assert registry["counter"].__name__ == "Counter"
    assert registry["own"].__name__ == "OrderedDict"
    assert set(registry.built_in) == {"own"}


def test_what_is_built_in_is_found_without_a_look_at_all_that_is_installed(monkeypatch):
    asked = []
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: asked.append(group) or [])
    registry = Registry("thing", "a.group", {"own": "collections:OrderedDict"})
    assert "own" in registry
    assert registry["own"].__name__ == "OrderedDict"
    assert asked == []
    assert [list(registry), len(registry), "other" in registry] == [["own"], 1, False]
    assert asked == ["a.group"]


def test_a_module_alone_is_the_object():
    assert Registry("thing", "none", {"json": "json"})["json"].dumps(1) == "1"
