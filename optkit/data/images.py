"""Image data sets: idx files (MNIST's format) and folders with one subfolder per class.

Both become rows of `image` and `label`. An image of an idx file is the bytes of a PGM file, one in a folder
is its path, so that a data set of any size costs no more memory than its files.
"""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.data import audio, class_folders
from optkit.data.tables.splits import regular
from optkit.errors import DataError, MissingDependency, OptkitError

if TYPE_CHECKING:
    import datasets
    from PIL import Image


#: Endings of files that are read as images.
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
#: Formats that are decoded; of Pillow's others some run a program, and others draw what a text says.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
#: Column names that may hold an image: a path, bytes, or what the `datasets` library decodes.
COLUMNS = ("image", "img", "file_name", "image_path", "path", "file", "pixel_values")
#: The most pixels of an image, as it comes and resized: a few bytes of PNG can stand for gigabytes.
MOST_PIXELS = 50_000_000
_IDX_SPLITS = {"train": "train", "t10k": "test", "test": "test", "validation": "validation"}


def find(folder: Path) -> dict[str, list[Path]]:
    """Split → idx files (images, labels) or one folder of class folders; {} where there is neither.

    A folder that holds the class folders itself is the split `all`.
    """
    splits: dict[str, list[Path]] = {}
    for prefix, split in _IDX_SPLITS.items():
        files = [sorted(folder.glob(f"{prefix}-{kind}-idx*-ubyte*")) for kind in ("images", "labels")]
        if all(files):
            splits[split] = [files[0][0], files[1][0]]
    if splits:
        return splits
    return class_folders.find(folder, ENDINGS)


def read(files: list[Path]) -> datasets.Dataset:
    """The `datasets.Dataset` of one split that `find` found. Raises DataError."""
    import datasets

    if files[0].is_dir():
        return class_folders.read(files[0], ENDINGS, "image")
    images, labels = read_idx(files[0]), read_idx(files[1])
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"Expected images (count, height, width) and as many labels, received {images.shape} in "
            f"{str(files[0])!r} and {labels.shape} in {str(files[1])!r}."
        )
    head = f"P5 {images.shape[2]} {images.shape[1]} 255\n".encode()
    return datasets.Dataset.from_dict(
        {"image": [head + image.tobytes() for image in images], "label": labels.astype(np.int64)}
    )


def read_idx(file: Path) -> np.ndarray:
    """An idx file of bytes, gzipped or not. Raises DataError where it is none, or cut off.

    Source: Y. LeCun, "The MNIST database": a magic number 0, 0, type, dimensions; sizes; values.
    """
    try:
        regular(file)
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError) as reason:
        raise DataError(f"{str(file)!r} is no whole gzip file: {reason}.") from reason
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08" or len(raw) < 4 + 4 * raw[3]:
        raise DataError(
            f"Expected an idx file of bytes in {str(file)!r}, received another header: {raw[:4]!r}."
        )
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    values = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3])
    if values.size != int(np.prod(shape)):
        raise DataError(
            f"{str(file)!r} is cut off: expected {int(np.prod(shape))} bytes, received {values.size}."
        )
    return values.reshape(shape)


def stored(
    item: str | Path | bytes | dict[str, Any] | Image.Image | np.ndarray, folder: Path, number: int
) -> str:
    """The path of an image: a path, bytes, both by name, a Pillow image, an array of bytes.

    What is no file yet becomes one in `folder`, called `number`, without loss.
    """
    content = item.get("bytes") or item.get("path") if isinstance(item, dict) else item
    if isinstance(content, str | Path):
        return str(content)
    folder.mkdir(exist_ok=True)
    file = folder / f"{number}.image"
    if isinstance(content, bytes):
        file.write_bytes(content)
        return str(file)
    from PIL import Image

    image = content if isinstance(content, Image.Image) else Image.fromarray(np.asarray(content).squeeze())
    image.save(file, "PNG")
    return str(file)


def located(rows: datasets.Dataset, folder: Path) -> datasets.Dataset:
    """`rows` with relative paths of images, masks, sounds made whole, where they name files in `folder`."""
    for name in rows.column_names:
        first = rows[0][name]
        if not isinstance(first, str) or not (
            name in (*COLUMNS, *audio.COLUMNS) or first.lower().endswith(ENDINGS)
        ):
            continue
        if not Path(rows[0][name]).is_absolute() and (folder / rows[0][name]).is_file():
            paths = [str(folder / str(path)) for path in rows[name]]
            rows = rows.remove_columns(name).add_column(name, paths)
    return rows


@contextmanager
def opened(item: str | Path | bytes, where: str, noun: str = "") -> Iterator[Image.Image]:
    """A Pillow image of a file or its bytes, decoded; `where` it comes from and its `noun` are for messages.

    Raises DataError for another format, a damaged file, or more pixels than are decoded, MissingDependency
    without Pillow.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as reason:
        raise MissingDependency.of("PIL", "images") from reason
    shown = "bytes" if isinstance(item, bytes) else repr(str(item))
    noun = noun or f"an image from {shown} at {where}"
    try:
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item, formats=FORMATS) as image:
            refuse_too_large(image.size, where)  # known before anything is decoded
            image.load()
            yield image
    except OptkitError:
        raise
    except UnidentifiedImageError as reason:
        known = ", ".join(FORMATS)
        raise DataError(f"Cannot read {noun}: it is none of {known}.") from reason
    except Exception as reason:  # Pillow raises SyntaxError and others for damaged files
        why = str(reason).rstrip(".")
        raise DataError(f"Cannot read {noun}: {why}.") from reason


def refuse_too_large(size: tuple[int, int], where: str) -> None:
    """Raise DataError for an image, at `where`, of more pixels than are decoded, and for one of none."""
    if min(size) < 1:
        raise DataError(
            f"Expected an image that has pixels when it is resized at {where}, received one so long "
            "and thin that it has none.",
            hint="Cut the long edge.",
        )
    if size[0] * size[1] > MOST_PIXELS:
        raise DataError(
            f"Expected an image of at most {MOST_PIXELS:,} pixels at {where}, as it is and resized, "
            f"received {size[0]} x {size[1]}.",
            hint="Make it smaller, or cut the long edge.",
        )
