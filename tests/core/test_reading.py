"""Reading what may come from a stranger: bounded, regular files only, plain JSON."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from optkit.core.files import write_json
from optkit.core.reading import MOST_DEPTH, json_list, read_bytes, read_json
from optkit.errors import CheckpointError

BAD = {
    "deep": "[" * 100_000,
    "deep and closed": "[" * 900 + "]" * 900,
    "deep object": '{"a":' * (MOST_DEPTH + 1) + "1" + "}" * (MOST_DEPTH + 1),
    "digits": '{"a": ' + "9" * 10_000 + "}",
    "4,000 digits": '{"a": ' + "9" * 4_000 + "}",
    "nan": '{"a": NaN}',
    "infinity": '{"a": -Infinity}',
    "huge float": '{"a": 1e999}',
    "twice": '{"a": 1, "a": 2}',
    "surrogate": '{"a": "\\ud800"}',
    "surrogate key": '{"\\udfff": 1}',
    "list": "[1]",
    "text": '"a"',
    "null": "null",
    "empty": "",
    "half": '{"a": ',
    "more": "{} {}",
}


@pytest.mark.parametrize("name", BAD)
def test_refuses_in_one_line(tmp_path, name):
    file = tmp_path / "x.json"
    file.write_text(BAD[name])
    with pytest.raises(CheckpointError) as raised:
        read_json(file, CheckpointError)
    assert "x.json" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_takes_what_transformers_writes(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('\ufeff{"most": 1000000000000000019884624838656, "pair": "\\ud83d\\ude00"}')
    assert read_json(file, CheckpointError) == {"most": int(1e30), "pair": "😀"}
    file.write_text('{"limit": [0.0, Infinity]}')
    assert read_json(file, CheckpointError, finite=False) == {"limit": [0.0, float("inf")]}


def test_not_utf8(tmp_path):
    file = tmp_path / "x.json"
    file.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(CheckpointError, match="UTF-8"):
        read_json(file, CheckpointError)


def test_only_regular_files(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to("absent")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        for name in ("fifo", "folder", "nowhere", "loop", "socket", "absent", "a\0b"):
            with pytest.raises(CheckpointError):
                read_json(tmp_path / name, CheckpointError)
    with pytest.raises(CheckpointError, match="device"):
        read_json(Path("/dev/zero"), CheckpointError)


def test_size(tmp_path):
    file = tmp_path / "x"
    with file.open("wb") as stream:
        stream.truncate(101)
    assert len(read_bytes(file, CheckpointError, most=101)) == 101
    with pytest.raises(CheckpointError, match="at most 100 bytes"):
        read_bytes(file, CheckpointError, most=100)


def test_a_list_of_objects(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('[{"a": 1}]')
    assert json_list(file, CheckpointError) == [{"a": 1}]
    file.write_text("[1]")
    with pytest.raises(CheckpointError, match="list of objects"):
        json_list(file, CheckpointError)


def test_what_is_written_can_be_read(tmp_path):
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5]})
    assert read_json(tmp_path / "x.json", CheckpointError) == {"a": None, "b": [None, 1.5]}
