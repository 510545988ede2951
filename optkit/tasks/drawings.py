"""Small pictures for reports: an image with the boxes, or the classes of its pixels, that models answered.

A picture is a JPEG of at most `SIDE` pixels a side. Classes have colours by their index, and a key beside the
pictures names those that are there.
"""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from optkit.core.reading import Json
from optkit.models.pixels import open_image
from optkit.tasks.labelled import Input

if TYPE_CHECKING:
    from PIL import Image


#: The longest side of a picture, in pixels, and how its JPEG is packed.
SIDE, QUALITY = 240, 75
#: Names of classes in a key.
MOST_NAMES = 20
#: How much of a pixel's colour is its class's.
_TINT = 0.55
_DIFFERENT = (255, 0, 200)


def thumbnail(item: Input) -> tuple[Image.Image, tuple[int, int]]:
    """The image `item` made small, and its own (width, height). Raises DataError as reading it does."""
    from PIL import Image

    image = open_image(item, 0, "RGB").convert("RGB")
    size = image.size
    image.thumbnail((SIDE, SIDE))
    if (times := SIDE // max(image.size)) > 1:  # so small that nobody would see what is drawn on it
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    return image, size


def picture(caption: str, image: Image.Image) -> dict[str, Json]:
    """As `optkit.core.schema.report.Picture` holds it."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return {"caption": caption, "jpeg": base64.b64encode(file.getvalue()).decode()}


def key(classes: Iterable[int], labels: Sequence[str]) -> list[Json]:
    """The colour and the name of each of these classes."""
    shown = sorted(set(classes))[:MOST_NAMES]
    return [{"color": f"#{bytes(color(i)).hex()}", "label": labels[i]} for i in shown]


def color(index: int) -> tuple[int, int, int]:
    """A colour for a class: neighbours lie far apart.

    >>> color(0), color(1)
    ((242, 73, 24), (24, 242, 137))
    """
    share = colorsys.hsv_to_rgb((0.0375 + index * 0.381966) % 1, 0.9, 0.95)
    return round(share[0] * 255), round(share[1] * 255), round(share[2] * 255)


def with_boxes(
    image: Image.Image, size: tuple[int, int], boxes: np.ndarray, thick: np.ndarray
) -> Image.Image:
    """`boxes` (n, 5) of class, left, top, right, bottom, in pixels of an image of this (width, height), drawn
    on the small `image`: those that are `thick` (n,) bool with a wide edge, others with a thin one."""
    from PIL import ImageDraw

    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    scale = np.tile(np.array(image.size) / size, 2)
    for (kind, *corners), wide in zip(boxes.tolist(), thick.tolist()):
        left, top, right, bottom = np.clip(corners * scale, -SIDE, 2 * SIDE).tolist()
        corner_pairs = [min(left, right), min(top, bottom), max(left, right), max(top, bottom)]
        pen.rectangle(corner_pairs, outline=color(int(kind)), width=3 if wide else 1)
    return drawn


def masks(item: Input, named: Mapping[str, np.ndarray]) -> list[Json]:
    """The image `item` under each of these masks of class ids, (height, width), and where the last two of
    them differ."""
    from PIL import Image

    image, _ = thumbnail(item)
    pixels = np.asarray(image).astype(np.float32)
    small = {
        name: np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
        for name, mask in named.items()
    }
    colors = np.array([color(i) for i in range(255)] + [(0, 0, 0)], dtype=np.float32)
    pictures: list[Json] = []
    for name, mask in small.items():
        mixed = pixels * (1 - _TINT) + colors[mask] * _TINT
        pictures.append(picture(name, Image.fromarray(mixed.astype(np.uint8))))
    before, after = list(small.values())[-2:]
    gray = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    marked = np.where((before != after)[..., None], np.array(_DIFFERENT, dtype=np.float32), gray)
    pictures.append(picture("where they differ", Image.fromarray(marked.astype(np.uint8))))
    return pictures
