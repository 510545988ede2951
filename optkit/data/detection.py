"""Images with boxes: COCO's JSON and Pascal VOC's XML, as rows of `image` and `objects`.

`objects` holds lists, an entry per object: `bbox` (x, y, width, height in pixels), `category` (its name) and
`iscrowd`. Images are named by their paths.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from optkit.core.files import read_json, sha256
from optkit.data.tables.splits import regular, split_named
from optkit.errors import DataError

if TYPE_CHECKING:
    import datasets


#: Names of the file of annotations in a folder of images.
NAMES = ("annotations.json", "_annotations.coco.json", "metadata.jsonl", "metadata.csv", "metadata.parquet")
#: Folders, beside the annotations, in which images may lie.
FOLDERS = ("", "images", "JPEGImages", "../JPEGImages", "../images")
_XML = "Annotations"
#: What stands beside `images` in COCO's JSON; the lists of what was not labelled have the second alone.
_BESIDE = ("annotations", "categories")


def find(folder: Path) -> dict[str, list[Path]]:
    """Split → its file of annotations, VOC's list of images, or folder of XML; {} where there is none.

    What lies in the folder itself is the split `all`.
    """
    if there := next((folder / name for name in NAMES if (folder / name).is_file()), None):
        return {"all": [there]}
    lists = sorted((folder / "ImageSets" / "Main").glob("*.txt"))
    named = {split: [path] for path in lists if (split := split_named(path.stem))}
    if (folder / _XML).is_dir():
        return named or {"all": [folder / _XML]}
    inner = {split_named(path.name): path / _XML for path in sorted(folder.iterdir())}
    return {split: [path] for split, path in inner.items() if split and path.is_dir()}


def is_coco(file: Path) -> bool:
    """Whether this file of JSON is one object with `images` and what is on them, and no row of a table."""
    if file.suffix != ".json":
        return False
    with regular(file).open("rb") as stream:
        line = stream.readline().removeprefix(b"\xef\xbb\xbf").strip()
        if line and not line.startswith(b"{"):
            return False
        try:
            whole = json.loads(line)
        except (ValueError, RecursionError):  # an object that goes on below
            text = line + stream.read()
            return b'"images"' in text and any(f'"{key}"'.encode() in text for key in _BESIDE)
    images = whole.get("images")
    listed = isinstance(images, list) and all(isinstance(image, dict) for image in images)
    return listed and any(key in whole for key in _BESIDE)


def is_voc(path: Path) -> bool:
    return path.name == _XML or path.parent.parts[-2:] == ("ImageSets", "Main")


def read_coco(files: list[Path]) -> datasets.Dataset:
    """The rows of COCO's JSON: `images`, `annotations`, `categories`. Raises DataError."""
    return _rows(row for file in files for row in _coco(file))


def read_voc(path: Path) -> datasets.Dataset:
    """The rows of a folder of Pascal VOC's XML, or of a list of their names. Raises DataError.

    Its pixels are counted from 1, so that a box from 1 to the width is the whole image. Of objects that are
    `difficult` none has to be found.
    """
    return _rows(_voc(file) for file in _xml_files(path))


def fingerprint(path: Path) -> str:
    """What stands for the contents of the XML behind `path`."""
    lines = (f"{file.name} {sha256(regular(file))}\n" for file in _xml_files(path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _rows(pairs: Iterator[tuple[str, list[dict[str, Any]]]]) -> datasets.Dataset:
    import datasets

    rows = list(pairs)
    objects = [
        {name: [one[name] for one in row] for name in ("bbox", "category", "iscrowd")} for _, row in rows
    ]
    return datasets.Dataset.from_dict({"image": [image for image, _ in rows], "objects": objects})


def _coco(file: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    whole, shown = read_json(file, DataError), repr(str(file))
    for name in ("images", "annotations", "categories"):
        if not isinstance(whole.get(name), list) or not all(isinstance(x, dict) for x in whole[name]):
            raise DataError(
                f"Expected a list {name!r} of objects in {shown}, as COCO's files have it.",
                hint="A file of rows is a JSON list, or has the ending .jsonl.",
            )
    kinds = {x.get("id"): x.get("name") for x in whole["categories"]}
    if None in kinds or not all(isinstance(name, str) for name in kinds.values()):
        raise DataError(f"Expected an id and a name for each category in {shown}.")
    if len(set(kinds.values())) < len(kinds):
        raise DataError(
            f"Expected different names of categories in {shown}, received {list(kinds.values())}."
        )
    objects: dict[Any, list[dict[str, Any]]] = {image.get("id"): [] for image in whole["images"]}
    if len(objects) < len(whole["images"]):
        raise DataError(f"Expected images with ids of their own in {shown}, received one twice.")
    for index, one in enumerate(whole["annotations"]):
        where = f"annotation {index} of {shown}"
        if one.get("image_id") not in objects:
            raise DataError(f"Expected a known image_id in {where}, received {one.get('image_id')!r}.")
        if one.get("category_id") not in kinds:
            raise DataError(f"Expected a known category_id in {where}, received {one.get('category_id')!r}.")
        if "bbox" not in one:
            raise DataError(f"Expected a bbox in {where}, received none.")
        entry = {"bbox": one["bbox"], "category": kinds[one["category_id"]]}
        objects[one["image_id"]].append({**entry, "iscrowd": int(bool(one.get("iscrowd", 0)))})
    rows = []
    for image in whole["images"]:
        where = f"image {image.get('id')!r} of {shown}"
        rows.append((_image(file.parent, str(image.get("file_name")), where), objects[image.get("id")]))
    return rows


def _xml_files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(path.glob("*.xml"))
    else:  # a name per line; lists of one class have a second column
        lines = regular(path).read_text(encoding="utf-8").splitlines()
        files = [path.parents[2] / _XML / f"{line.split()[0]}.xml" for line in lines if line.strip()]
    if not files:
        raise DataError(f"Expected files of XML for {str(path)!r}, received none.")
    return files


def _voc(file: Path) -> tuple[str, list[dict[str, Any]]]:
    content = regular(file).read_bytes()
    try:
        if any(mark in content for mark in (b"<!DOCTYPE", b"<!ENTITY", b"\0")):  # or gigabytes, or files
            raise DataError(f"Expected plain XML in {str(file)!r}, received entities or another encoding.")
        root = ElementTree.fromstring(content)
        objects = []
        for one in root.iter("object"):
            left, top, right, bottom = (
                float(one.findtext(f"bndbox/{name}", "")) for name in ("xmin", "ymin", "xmax", "ymax")
            )
            box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
            kind, hard = one.findtext("name"), one.findtext("difficult", "0").strip()
            objects.append({"bbox": box, "category": kind, "iscrowd": int(hard == "1")})
    except (ElementTree.ParseError, ValueError) as reason:
        raise DataError(f"{str(file)!r} is no annotation of Pascal VOC: {reason}.") from reason
    name = root.findtext("filename") or f"{file.stem}.jpg"
    return _image(file.parent, name, repr(str(file))), objects


def _image(folder: Path, name: str, where: str) -> str:
    """The path of the image called `name`, which `where` speaks of."""
    path = next((p for part in FOLDERS if os.path.isfile(p := folder / part / name)), None)
    if path is None or Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(
            f"Expected the image {name!r} beside its annotations, for {where}: it is missing.",
            hint="Images lie beside the file of annotations, or in a folder images.",
        )
    return str(path.resolve())
