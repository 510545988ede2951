"""Masks of images, a class id per pixel, and folders of them beside the images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core.files import read_json
from optkit.data import images
from optkit.data.tables.splits import split_named
from optkit.errors import DataError

if TYPE_CHECKING:
    import datasets
    from PIL import Image


#: Column names that may hold a mask.
COLUMNS = ("mask", "segmentation", "segmentation_mask", "annotation", "label", "labels")
#: Folders beside one of images, `images`, that may hold its masks.
FOLDERS = ("masks", "labels", "annotations", "segmentation")


def find(folder: Path) -> dict[str, list[Path]]:
    """Split → its folder of images and the one of their masks; {} where there are none.

    Either `train/images` and `train/masks`, or `images/train` and `masks/train`; without splits it is `all`.
    """
    if (pair := _pair(folder)) is None:
        inner = {split_named(p.name): _pair(p) for p in sorted(folder.iterdir()) if p.is_dir()}
        return {split: pair for split, pair in inner.items() if split and pair}
    splits = {split_named(p.name): [p, pair[1] / p.name] for p in sorted(pair[0].iterdir()) if p.is_dir()}
    pairs = {split: both for split, both in splits.items() if split and both[1].is_dir()}
    return pairs or {"all": pair}


def read(files: list[Path]) -> datasets.Dataset:
    """The rows of `image` and `mask` in two folders. DataError names an image or a mask without the other."""
    import datasets

    named = [{p.stem: p for p in sorted(f.iterdir()) if p.suffix.lower() in images.ENDINGS} for f in files]
    if alone := sorted(set(named[0]) ^ set(named[1])):
        raise DataError(
            f"Expected an image and a mask of each name in {str(files[0])!r} and {str(files[1])!r}, received "
            f"only one of {alone[0]!r}.",
            hint="A mask has the name of its image; the ending may be another.",
        )
    if not named[0]:
        raise DataError(f"Expected images in {str(files[0])!r}, received none.")
    columns = {"image": named[0].values(), "mask": [named[1][name] for name in named[0]]}
    return datasets.Dataset.from_dict({name: list(map(str, paths)) for name, paths in columns.items()})


def is_mask(item: object) -> bool:
    """Whether a value can be one: an image file, its bytes, or an image, and no class."""
    return (isinstance(item, str) and item.lower().endswith(images.ENDINGS)) or not isinstance(
        item, str | int | float | list | None
    )


def opened(item: Any, row: int) -> np.ndarray:
    """The class ids of a mask, (height, width), bytes. DataError names the row of what is no mask."""
    if isinstance(item, dict):
        item = item.get("bytes") or item.get("path")
    if isinstance(item, str | Path | bytes):
        with images.opened(item, f"row {row}", f"the mask of row {row}") as image:
            return _classes(image, row)
    from PIL import Image

    try:
        image = item if isinstance(item, Image.Image) else Image.fromarray(np.asarray(item))
    except (TypeError, ValueError) as reason:
        raise DataError(f"Cannot read the mask of row {row}: {reason}.") from reason
    return _classes(image, row)


def _classes(image: Image.Image, row: int) -> np.ndarray:
    if image.mode not in ("L", "P", "1"):
        raise DataError(
            f"Expected a mask of one channel of 8 bits, a class id per pixel, in row {row}, received one of "
            f"mode {image.mode}.",
            hint="Colours and 16 bits are no class ids: write the masks as PNG of mode L or P.",
        )
    return np.asarray(image, dtype=np.uint8)


def names(rows: datasets.Dataset, column: str, highest: int) -> list[str] | None:
    """The names of the classes of the masks in `column`: {"mask": ["ground", ...]} in a `labels.json` in the
    folder of the first mask or one of the two above it; None without one. Raises DataError for too few."""
    first = rows[0][column]
    parents = Path(first).resolve().parents[:3] if isinstance(first, str) else ()
    file = next((folder / "labels.json" for folder in parents if (folder / "labels.json").is_file()), None)
    if file is None or column not in (stated := read_json(file, DataError)):
        return None
    classes = stated[column]
    if not isinstance(classes, list) or len(set(map(str, classes))) < len(classes) or len(classes) <= highest:
        raise DataError(
            f"Expected at least {highest + 1} names for {column!r} in {str(file)!r}, all different, as there "
            f"is a pixel of class {highest}, received {classes!r}.",
            hint="Add the names that are missing; a class's place in the list is its value in the masks.",
        )
    return list(map(str, classes))


def _pair(folder: Path) -> list[Path] | None:
    """The folders of images and of masks in `folder`."""
    there = [folder / "images", *(folder / name for name in FOLDERS)]
    folders = [p for p in there if p.is_dir()]
    return folders if len(folders) == 2 and folders[0].name == "images" else None
