"""CONTRIBUTING.md: its walks work as they stand, registered as a package of one's own does it."""

from __future__ import annotations

import inspect
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import read_what_is_installed_anew

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
#: Path, as the first line of a block says it → its code.
FILES = {code.split("\n", 1)[0].removeprefix("# "): code for kind, code in BLOCKS if kind == "python"}
POINTS = tomllib.loads(next(code for kind, code in BLOCKS if kind == "toml"))["project"]["entry-points"]
TESTS = [
    (path, name)
    for path, code in FILES.items()
    if path.startswith("tests/")
    for name in re.findall(r"^def (test_\w+)", code, re.M)
]


@pytest.fixture
def walked(tmp_path, monkeypatch):
    """The modules of the walks in `my_package`, with its entry points, here and in child processes."""
    site = tmp_path / "site"
    package, info = site / "my_package", site / "my_package-1.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("")
    for path, code in FILES.items():
        if path.startswith("optkit/"):
            (package / Path(path).name).write_text(code, encoding="utf-8")
    lines = [f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in of.items()) for group, of in POINTS.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    read_what_is_installed_anew()
    yield
    read_what_is_installed_anew()
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


def test_the_way_of_the_data_is_read_in_one_sitting():
    section = PAGE.read_text(encoding="utf-8").split("## The way of the data")[1].split("##")[0]
    names = re.findall(r"`([\w/]+\.py)`", section.partition("at most")[0])
    assert len(names) == 9
    assert sum(len((PAGE.parent / "optkit" / name).read_text().splitlines()) for name in names) <= 1500
    assert len([x for x in (PAGE.parent / "optkit").iterdir() if x.name != "__pycache__"]) <= 18


def test_each_walk_has_its_file_its_test_and_its_entry_point():
    assert [path.split("/")[1] for path in FILES] == ["passes"] * 2 + ["runtimes"] * 2 + ["tasks"] * 2
    assert len(TESTS) >= 3
    targets = [target for of in POINTS.values() for target in of.values()]
    assert sorted(t.partition(":")[0].replace("my_package.", "") for t in targets) == sorted(
        Path(path).stem for path in FILES if path.startswith("optkit/")
    )


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_the_test_of_a_walk_passes(path, name, walked, request, tmp_path):
    added = r"optkit\.(?:passes|runtimes|tasks)\.(round_weights|one_by_one|stars)"
    code = re.sub(added, r"my_package.\1", FILES[path])
    space: dict = {"__name__": Path(path).stem}
    exec(compile(code, path, "exec"), space)
    work = tmp_path / "work"
    work.mkdir()
    arguments = inspect.signature(space[name]).parameters
    space[name](**{a: work if a == "tmp_path" else request.getfixturevalue(a) for a in arguments})
