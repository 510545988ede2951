"""Whatever stands in a manifest, report, recipe, table or command line: an error of ours, or none."""

from __future__ import annotations

import contextlib
import email
import io
import json
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optkit import cli
from optkit.compression.recipe import Recipe
from optkit.core.artifact import Artifact
from optkit.data.dataset import Data
from optkit.errors import OptkitError
from optkit.preprocessing.result import up_to_date
from optkit.report.model import Report
from optkit.serving import inputs
from optkit.serving.package import package
from optkit.training.tuning.space import Space
from tests.conftest import sentences
from tests.hostile.invocations import verbs
from tests.report.examples import full_report
from tests.serving.artifacts import artifact

quick = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "1%", "nan"])
)
values = st.recursive(
    leaves,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3),
    max_leaves=8,
)
MANIFEST = ("schema", "format", "precision", "task", "runtime", "lineage", "files", "versions", "gate")
REPORT = full_report().to_dict()


def changes(keys):
    return st.dictionaries(st.sampled_from(list(keys)), values, min_size=1, max_size=3)


@contextlib.contextmanager
def ours():
    """Errors of ours pass, in words of a bounded length."""
    try:
        yield
    except OptkitError as error:
        if not 0 < len(str(error)) < 3000:
            raise AssertionError("it says nothing, or too much") from error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return artifact(tmp_path_factory.mktemp("properties") / "model")


@quick
@given(changes(MANIFEST))
def test_manifests(folder, changed):
    file = folder / "optkit.json"
    whole = file.read_text(encoding="utf-8")
    try:
        file.write_text(json.dumps({**json.loads(whole), **changed}), encoding="utf-8")
        with ours():
            Artifact.open(folder)
    finally:
        file.write_text(whole, encoding="utf-8")


@quick
@given(changes(REPORT))
def test_reports(changed):
    with ours():
        Report.from_dict({**REPORT, **changed})


@quick
@given(st.integers(0, 3), changes(REPORT["rows"][0]))
def test_rows_of_reports(number, changed):
    rows = [{**row, **changed} if i == number else row for i, row in enumerate(REPORT["rows"])]
    with ours():
        Report.from_dict({**REPORT, "rows": rows})


steps = st.lists(
    st.dictionaries(
        st.sampled_from(["pass", "any_of", "share", "opset", "epochs"]), values | st.just("prune"), max_size=3
    ),
    max_size=3,
)


@quick
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "steps": steps | values,
            "gate": values | changes(["max_drop", "min_speedup"]),
            "target": values,
        },
    )
)
def test_recipes(value):
    with ours():
        Recipe.from_dict(value)


@quick
@given(
    st.text(max_size=40)
    | st.sampled_from(["int", "uniform", "choice"]).flatmap(
        lambda k: st.builds(f"{k}({{}})".format, st.text("0123456789.,e-naif", max_size=12))
    )
)
def test_spaces(form):
    with ours():
        space = Space.parse([f"x={form}"])
        for dimension in space.dimensions.values():
            dimension.points()


@quick
@given(values | changes(["key", "files"]))
def test_notes_of_preprocess(tmp_path_factory, value):
    place = tmp_path_factory.mktemp("prepared")
    (place / "preprocessing.json").write_text(json.dumps(value), encoding="utf-8")
    assert up_to_date(place, "key") is None


def _damaged(content: bytes):
    """`content` with pieces of it changed, cut out, or put where they do not belong."""
    cut = st.integers(0, len(content))
    piece = st.binary(max_size=8) | st.sampled_from(
        [b'"', b"\n", b",", b"\\ud800", b"\xff", b"NaN", b"[[[[", b"\0", b"{}"]
    )
    return st.builds(lambda a, b, p: content[: min(a, b)] + p + content[max(a, b) :], cut, cut, piece)


ROWS = sentences(4)
TABLES = {
    ".jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    ".json": json.dumps(ROWS).encode(),
    ".csv": ("text,label\n" + "".join(f'"{row["text"]}",{row["label"]}\n' for row in ROWS)).encode(),
    ".tsv": ("text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in ROWS)).encode(),
}


def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), stream)
    return stream.getvalue()


@pytest.mark.parametrize("ending", [*TABLES, ".parquet"])
def test_damaged_rows(tmp_path, ending):
    content = TABLES[ending] if ending in TABLES else _parquet()
    file = tmp_path / f"train{ending}"

    @settings(quick, max_examples=25)
    @given(_damaged(content))
    def read(damaged):
        file.write_bytes(damaged)
        with ours():
            list(Data(str(file)).whole("all"))
        if ending in inputs.KINDS:
            with ours():
                for chunk in inputs.plan(file, 2):
                    inputs.read(file, chunk)

    read()


@quick
@given(st.binary(max_size=60) | st.builds(lambda t: json.dumps(t).encode(), values))
def test_labels_of_a_folder(tmp_path_factory, content):
    place = tmp_path_factory.mktemp("labels")
    rows = [{"text": row["text"], "label": int(row["label"] == "positive")} for row in ROWS]
    (place / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (place / "labels.json").write_bytes(content)
    with ours():
        list(Data(str(place)).split("train"))


words = st.text(st.characters(blacklist_characters="\0"), max_size=12) | st.sampled_from(
    [
        "--epochs",
        "--out",
        "nan",
        "--help",
        "1",
        "-1",
        "--int8",
        "--",
        "-q",
        "--data",
        "/dev/null",
        "\udc80",
        "a" * 300,
    ]
)


@settings(quick, max_examples=60)
@given(
    st.sampled_from(sorted(v.name for v in verbs() if v.name not in ("demo", "recipe init"))),
    st.lists(words, max_size=5),
)
def test_command_lines(tmp_path_factory, verb, given_words):
    """What they name does not exist, so that none can succeed but help and lists."""
    code, said = _command([*verb.split(), *given_words], tmp_path_factory.mktemp("here"))
    assert code in (0, 2, 4, 5, 6, 7), said
    assert "Traceback" not in said
    if code:
        assert [line.partition(":")[0] for line in said.splitlines()][:1] == ["error"], said


def _command(arguments: list[str], folder: Path) -> tuple[int, str]:
    """The exit code and standard error of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["optkit", *arguments])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0), err.getvalue()


DOCKERFILE = "FROM ENV RUN WORKDIR COPY COPY RUN COPY USER EXPOSE HEALTHCHECK ENTRYPOINT"
#: What of a manifest is written into what is packaged.
NAMES = st.text(alphabet=st.characters(codec="utf-8"), max_size=12) | st.from_regex(r"[\w.+-]+[\s\S]?")


@settings(quick, max_examples=15)
@given(NAMES, NAMES, NAMES, st.sampled_from(["docker", "wheel"]))
def test_packages(folder, tmp_path_factory, precision, license, version, format):
    """Whatever a manifest that opens says, no file for other tools has a line that it wrote."""
    file, out = folder / "optkit.json", tmp_path_factory.mktemp("packages") / "out"
    whole = file.read_text(encoding="utf-8")
    changed = {"precision": precision, "license": license, "versions": {"onnx": version}}
    try:
        file.write_text(json.dumps({**json.loads(whole), **changed}), encoding="utf-8")
        with ours():
            package(folder, format, out, name="model", version=version if version.isdigit() else "1")
    finally:
        file.write_text(whole, encoding="utf-8")
    for dockerfile in out.glob("Dockerfile"):
        lines = dockerfile.read_text(encoding="utf-8").split("\n")
        first = [line.split()[0] for line in lines if line and line[0] not in "# "]
        assert " ".join(first) == DOCKERFILE
    for wheel in out.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
            message = email.message_from_bytes(archive.read(metadata))
        assert message.keys() == [
            "Metadata-Version",
            "Name",
            "Version",
            "Summary",
            "Requires-Python",
            "Requires-Dist",
        ]
        assert message.get_payload() == ""
