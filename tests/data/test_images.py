from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from optkit.data import images
from optkit.data.dataset import Data
from optkit.errors import DataError
from tests.conftest import SHARED, write_jsonl
from tests.tasks.builders import digits, digits_data, write_idx


@pytest.fixture
def classes(tmp_path):
    """train and test folders with two classes of three images each."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "data"


def test_idx_files(tmp_path):
    import io

    data = Data(str(digits_data(tmp_path / "idx", train=50, test=10)))
    assert sorted(data.splits) == ["test", "train"]
    assert [len(data.split(s)) for s in ("train", "validation", "test")] == [45, 5, 10]
    pixels, labels = digits(60)
    rows = data.split("test")
    assert rows["label"][:] == labels[50:].tolist()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(rows[0]["image"]))), pixels[50])
    assert data.fingerprint("train") != data.fingerprint("test")


def test_fashion_mnist_as_it_is_published():
    folder = SHARED / "data" / "fashion_mnist"
    if not folder.exists():
        pytest.skip("the shared data is not beside this project")
    files = images.find(folder)
    assert images.read_idx(files["test"][0]).shape == (10000, 28, 28)
    assert np.bincount(images.read_idx(files["test"][1])).tolist() == [1000] * 10


def test_folders_of_classes(classes):
    data = Data(str(classes))
    rows = data.split("test")
    assert rows["label"][:] == ["cat"] * 3 + ["dog"] * 3
    assert rows["image"][0].endswith("test/cat/0.png")
    before = data.fingerprint("test")
    Image.new("L", (8, 8)).save(classes / "test" / "cat" / "0.png")
    assert Data(str(classes)).fingerprint("test") != before


def test_one_folder_of_classes_is_split(classes):
    data = Data(str(classes / "train"))
    assert (len(data.split("train")), len(data.split("validation"))) == (5, 1)


def test_relative_paths_in_a_file_are_beside_it(classes):
    write_jsonl(classes / "test.jsonl", [{"image": "test/cat/0.png", "label": "cat"}])
    rows = Data(str(classes / "test.jsonl")).whole("all")
    assert rows["image"][0] == str(classes / "test/cat/0.png")


def test_a_text_column_called_path_stays_as_it_is(tmp_path):
    file = write_jsonl(tmp_path / "x.jsonl", [{"path": "no/such/file", "text": "a"}])
    assert Data(str(file)).whole("all")["path"][:] == ["no/such/file"]


def test_damaged_files_are_named(tmp_path):
    write_idx(tmp_path / "x.gz", np.zeros((3, 8, 8)))
    whole = (tmp_path / "x.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(whole[:-4])
    (tmp_path / "text.gz").write_text("no gzip")
    (tmp_path / "float").write_bytes(b"\x00\x00\x0d\x01" + b"\x00" * 8)
    (tmp_path / "short").write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x09abc")
    for name, message in {
        "cut.gz": "no whole gzip",
        "text.gz": "no whole gzip",
        "float": "another header",
        "short": "expected 9 bytes, received 3",
    }.items():
        with pytest.raises(DataError, match=message):
            images.read_idx(tmp_path / name)


def test_labels_that_are_not_as_many_as_images(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((3, 8, 8)))
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(4))
    with pytest.raises(DataError, match="as many labels"):
        Data(str(tmp_path)).split("train")
