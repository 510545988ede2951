"""What `import optkit` promises: its names, and what it does not load."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import optkit

ROOT = Path(optkit.__file__).parent
HEAVY = {"torch", "transformers", "datasets", "onnx", "sklearn", "scipy", "pandas", "matplotlib", "openvino"}


def test_every_public_name_is_there():
    for name in optkit.__all__:
        assert getattr(optkit, name) is not None


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="compress"):
        _ = optkit.compres


@pytest.mark.parametrize(
    ("statement", "also"),
    [
        ("import optkit", {"numpy", "onnxruntime"}),
        ("import optkit.cli", {"numpy", "onnxruntime"}),
        ("from optkit import load", {"onnxruntime"}),
    ],
)
def test_light_imports_stay_light(statement, also):
    code = f"{statement}\nimport sys\nprint(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not (HEAVY | also) & set(done.stdout.split())


def test_the_help_of_no_verb_loads_what_only_work_needs():
    """Each verb's, and those below it: `optkit --help` has 0.3 s."""
    code = """
import contextlib, io, sys
from typer.main import get_command
from optkit.cli import app

def show(command, words):
    with contextlib.redirect_stdout(io.StringIO()):
        app([*words, "--help"], standalone_mode=False)
    below = getattr(command, "commands", {})
    return 1 + sum(show(found, [*words, name]) for name, found in below.items())

print(show(get_command(app), []), *sorted(m.split(".")[0] for m in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, *loaded = done.stdout.split()
    assert int(shown) > 18
    serving = {"fastapi", "starlette", "uvicorn", "httptools", "uvloop", "prometheus_client", "asyncio"}
    building = {
        "optuna",
        "onnxscript",
        "nncf",
        "accelerate",
        "safetensors",
        "PIL",
        "tokenizers",
        "jinja2",
        "rich",
    }
    engines = {"numpy", "onnxruntime", "tensorrt", "cuda"}
    assert not (HEAVY | serving | building | engines) & set(loaded)


def test_every_module_imports_without_its_heavy_libraries():
    """Importing a module loads nothing heavy: the libraries load inside functions."""
    names = [m.name for m in walk_packages(optkit.__path__, "optkit.")]
    code = (
        f"import sys\nfor n in {names!r}: __import__(n)\nprint(*sorted(m.split('.')[0] for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not (HEAVY | {"onnxruntime"}) & set(done.stdout.split())


def test_every_module_says_what_it_is_for():
    for m in walk_packages(optkit.__path__, "optkit."):
        module = import_module(m.name)
        empty_package = m.ispkg and not [x for x in vars(module) if not x.startswith("_")]
        assert module.__doc__ or empty_package, f"{m.name} has no docstring"


def test_what_is_public_is_held_to_all_of_strict():
    mypy = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert mypy["strict"] is True
    whole = [name for rule in mypy["overrides"] if rule.get("warn_return_any") for name in rule["module"]]
    homes = {"optkit", *optkit._HOME.values()}
    assert {home for home in homes if not any(fnmatch(home, name) for name in whole)} == set()


def test_few_annotations_are_any_and_nothing_more():
    """What is open by design has a name: `Json`, `Input`, `Answer`, `JsonType`, `Setting`."""
    found = []
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for hint in (getattr(node, "annotation", None), getattr(node, "returns", None)):
                if isinstance(hint, ast.Name) and hint.id == "Any":
                    found.append(f"{file.relative_to(ROOT)}:{hint.lineno}")
    assert 0 < len(found) < 100, found
