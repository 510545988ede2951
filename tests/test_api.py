"""One Python API: the command line is a way to call the same functions, with the same names and defaults."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import optkit
from optkit import cli
from optkit.cli.parameters import COLUMNS

#: Verbs that print, and have nothing to give back: what they show are attributes of `Artifact`, `Recipe`,
#: `Report` and `Pass`; `demo` is an example.
SHOWN = {"demo", "info", "passes", "recipe", "report"}
ROOT = Path(__file__).parents[1]
VERBS = sorted({verb.__name__.rpartition(".")[2] for verb in cli.VERBS} - SHOWN)
#: Flags that are no parameter: they decide what is printed.
PRINTED = {"quiet", "json"}
#: Flags of `bench` that call another function, `optkit.self_check`.
OTHER = {"bench": {"self_check", "comparisons", "slowdown"}}
#: Parameters that are no flag: who hears of progress, and what a report names as its command.
NO_FLAG = {"events", "command"}


def flags(verb: str) -> dict[str, inspect.Parameter]:
    function = getattr(getattr(cli, verb), verb)
    return dict(inspect.signature(function).parameters)


@pytest.mark.parametrize("verb", VERBS)
def test_flags_and_parameters_have_the_same_names_and_defaults(verb):
    skipped = PRINTED | OTHER.get(verb, set())
    given = {name: p.default for name, p in flags(verb).items() if name not in skipped}
    has_columns = bool(COLUMNS.keys() & given.keys())
    asked = {name: default for name, default in given.items() if name not in COLUMNS}
    taken = {name: p.default for name, p in inspect.signature(getattr(optkit, verb)).parameters.items()}
    assert ("columns" in taken) == has_columns
    if has_columns:
        assert taken.pop("columns") == optkit.Columns()
        assert all(default is None for name, default in given.items() if name in COLUMNS)
    assert {name: default for name, default in taken.items() if name not in NO_FLAG} == asked


@pytest.mark.parametrize("verb", VERBS)
def test_every_parameter_is_documented_and_typed(verb):
    function = getattr(optkit, verb)
    documented = re.findall(r"^    (\w+): ", inspect.getdoc(function), re.M)
    signature = inspect.signature(function)
    assert documented == list(signature.parameters)
    annotated = {*(p.annotation for p in signature.parameters.values()), signature.return_annotation}
    assert not annotated & {inspect.Signature.empty, "Any", "dict[str, Any]"}
    assert ">>> " in function.__doc__


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_of_the_command_line_calls_the_function_of_its_name(verb):
    tree = ast.parse(Path(getattr(cli, verb).__file__).read_text())
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert f"optkit.{verb}" in used


def test_no_room_takes_the_name_of_a_verb():
    root = Path(optkit.__file__).parent
    rooms = {path.stem for path in root.iterdir() if path.suffix in ("", ".py")}
    assert not rooms & {name for name in optkit.__all__ if name != "__version__"}


def test_the_reference_lists_every_public_name():
    listed = re.findall(r"^::: optkit\.(\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.M)
    assert sorted([*listed, "__version__"]) == sorted(optkit.__all__)
