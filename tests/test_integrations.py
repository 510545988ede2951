"""The CI files are whole YAML, and every optkit command line in them is one that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parent.parent / "integrations" / "ci"
FILES = sorted(FOLDER.glob("*.yml"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_it_is_yaml_and_its_flags_exist(file):
    import typer.main

    from optkit.cli import app

    assert yaml.safe_load(file.read_text(encoding="utf-8"))
    commands = typer.main.get_command(app).commands
    text = file.read_text(encoding="utf-8")
    found = re.findall(r"optkit (compress|gate|report render)\s((?:[^\n;]|\n\s+--)*)", text)
    assert found
    for verb, rest in found:
        command = commands[verb.split()[0]]
        command = command.commands[verb.split()[1]] if " " in verb else command
        known = {option for p in command.params for option in p.opts}
        assert set(re.findall(r"--[a-z][a-z0-9-]*", rest)) <= known, verb


def test_the_action_states_every_input_it_uses():
    action = yaml.safe_load((FOLDER / "action.yml").read_text(encoding="utf-8"))
    used = set(re.findall(r"inputs\.([a-z-]+)", (FOLDER / "action.yml").read_text(encoding="utf-8")))
    assert used == set(action["inputs"])
