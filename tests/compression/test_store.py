"""Names in a work folder."""

import shutil
from pathlib import Path

import pytest

from optkit.compression.store import key_after, peak_file, step_folder
from optkit.errors import CheckpointError, DataError
from optkit.passes.base import make


def test_a_key_follows_source_parameters_and_order() -> None:
    export, prune, harder = (
        make("export-onnx", {}),
        make("prune", {"share": 0.4}),
        make("prune", {"share": 0.6}),
    )

    keys = {
        key_after("a", prune, export),
        key_after("b", prune, export),
        key_after("a", harder, export),
        key_after("a", export, prune),
        key_after("a", prune),
        key_after("a"),
    }

    assert len(keys) == 6
    assert key_after("a", prune, export) == key_after(key_after("a", prune), make("export-onnx", {}))


def test_a_key_follows_the_data_where_the_pass_reads_it() -> None:
    export, prune = make("export-onnx", {}), make("prune", {"share": 0.4})

    assert key_after("a", prune, data={"train": "1"}) != key_after("a", prune, data={"train": "2"})
    assert key_after("a", export, data={"train": "1"}) == key_after("a", export)


def test_a_key_follows_the_contents_of_a_teacher_and_of_more_texts(tmp_path: Path, checkpoint: Path) -> None:
    teacher = shutil.copytree(checkpoint, tmp_path / "teacher")
    texts = tmp_path / "more.txt"
    texts.write_text("a fine film\n")
    step = make("distill", {"teacher": str(teacher), "unlabelled": str(texts)})

    first = key_after("a", step)
    assert key_after("a", step) == first
    texts.write_text("a fine film\na dull one\n")
    second = key_after("a", step)
    (teacher / "config.json").write_text((teacher / "config.json").read_text() + " ")
    third = key_after("a", step)

    assert len({first, second, third}) == 3


def test_a_teacher_or_texts_that_are_missing_have_no_key(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        key_after("a", make("distill", {"teacher": str(tmp_path / "typo")}))
    with pytest.raises(DataError, match="a file of texts"):
        key_after("a", make("distill", {"unlabelled": str(tmp_path / "typo.txt")}))


def test_a_step_and_its_peak_lie_side_by_side() -> None:
    folder = step_folder(Path("work"), make("export-onnx", {}), "0123")

    assert folder == Path("work/export-onnx-0123")
    assert peak_file(folder).parent == folder.parent
