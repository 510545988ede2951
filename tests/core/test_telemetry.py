"""Libraries that report to their makers do not, once optkit is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnx.parser
import pytest

from optkit.core.telemetry import REPORTER, VARIABLES

#: What runs in a process of its own, with an empty home: no address is looked up, nothing is left there.
SCRIPT = """
import json, socket, sys
import numpy as np
asked = []
def refuse(*arguments, **_):
    asked.append(repr(arguments[:2]))
    raise OSError("no network in this test")
socket.getaddrinfo = socket.socket.connect = refuse
import optkit
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(None, {"x": np.ones(1, np.float32)})
try:
    import openvino
    import nncf
except ModuleNotFoundError as reason:
    assert reason.name in ("openvino", "nncf"), reason
print(json.dumps(asked))
"""


@pytest.fixture
def graph(tmp_path) -> Path:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[1] x) => (float[1] y) { y = Identity(x) }'
    file = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), file)
    return file


def test_no_library_reports_and_none_leaves_an_identifier(graph, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    gone = {*VARIABLES, "CI", "TF_BUILD", "JENKINS_URL", "XDG_CACHE_HOME", "NNCF_CI"}
    environment = {k: v for k, v in os.environ.items() if k not in gone} | {"HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(graph)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
    left = [str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()]
    assert not [p for p in left if "Microsoft" in p or "intel" in p.lower()], left


def test_a_choice_of_the_caller_stays():
    code = "import json, os, sys, optkit; print(json.dumps([dict(os.environ), sys.modules[sys.argv[1]]]))"
    environment, module = json.loads(
        run(code, {**os.environ, **dict.fromkeys(VARIABLES, "chosen")}, REPORTER)
    )
    assert {name: environment[name] for name in VARIABLES} == dict.fromkeys(VARIABLES, "chosen")
    assert module is None


def run(code: str, environment: dict[str, str], argument: str) -> str:
    command = [sys.executable, "-c", code, argument]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
