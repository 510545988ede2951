"""`PixelEncoder`: images to pixel values with Pillow and numpy alone, as preprocessor_config.json says.

The steps and their order are those of transformers' image processors (Pillow variants): convert, resize,
crop the centre, rescale, normalise. Serving needs neither torch nor transformers for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core.files import read_json
from optkit.data import images
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, DataError, MissingDependency
from optkit.models.architectures import ANY_SIZE, vision_of
from optkit.models.processors import BOUNDING, FILE, STEPS, settings_of

if TYPE_CHECKING:
    from PIL import Image


class PixelEncoder:
    """Encodes images as `pixel_values`, (channels, height, width), float32.

    An image is a path, the bytes of a file, a Pillow image, or an array (height, width[, channels])
    of bytes. `channels` (1 or 3) is what the model takes: images are converted to it. `size` is the height
    and width that the model is fed; where each image `varies`, that of a square one.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / FILE
        if not file.exists():
            raise CheckpointError(
                f"Expected {FILE} in {str(folder)!r}; it is missing.",
                hint="Save it there: AutoImageProcessor.from_pretrained(NAME).save_pretrained(FOLDER).",
            )
        config = read_json(folder / "config.json", CheckpointError)
        self._settings = settings_of(file, config.get("model_type"))
        self.channels = int(vision_of(config).get("num_channels") or 3)
        self.size = image_size(config, self._settings)
        if self.channels not in (1, 3):
            raise CheckpointError(f"Expected a model of 1 or 3 channels, received {self.channels}.")

    def encode(self, images: Sequence[object]) -> EncodedSet:
        """Raises DataError where an item is no image, or its size after these steps is not the model's."""
        return EncodedSet({"pixel_values": [self.read(image, i)[0] for i, image in enumerate(images)]}, {})

    def truncate(self, max_length: int | None) -> None:
        """Nothing: an image has no tokens."""

    @property
    def varies(self) -> bool:
        """Whether what the model is fed has another size for each image, within bounds of its edges."""
        s = self._settings
        fixed = isinstance(s["size"], dict) and "height" in s["size"]
        return s["family"] in BOUNDING and not (s["do_resize"] and fixed)

    @property
    def reduces_labels(self) -> bool:
        """Whether the classes of masks begin at 1: 0 is none of them."""
        return bool(self._settings.get("do_reduce_labels"))

    @property
    def family(self) -> str:
        """The family of transformers' image processors that this one is of."""
        return str(self._settings["family"])

    @property
    def takes_any_size(self) -> bool:
        """Whether images are brought to the model's size."""
        return bool(self.varies or self._settings["do_resize"] or self._settings["do_center_crop"])

    def read(self, item: object, place: int = 0) -> tuple[np.ndarray, tuple[int, int]]:
        """The `pixel_values` of one image, and its own (height, width). Raises as `encode` does."""
        s = self._settings
        mode = "L" if self.channels == 1 else "RGB"
        image = open_image(item, place, mode)
        image = (_on_white(image) if s.get("do_convert_rgb") else image).convert(mode)
        original_size = image.height, image.width
        cut, crop = None, _pair(s["crop_size"]) if s["do_center_crop"] else None
        if s["do_resize"]:
            target, cut = _resized(image.size, s)
            images.refuse_too_large(target, f"position {place}")
            image = image.resize(target, resample=int(s["resample"]))
        values = np.asarray(image)
        for window in (cut, crop):
            if window is not None:
                values = _cropped(values, window)
        if values.shape[:2] != self.size and not self.varies:
            raise DataError(
                f"Expected an image of {self.size[0]} x {self.size[1]} pixels at position {place} (the "
                f"model's image_size), received {values.shape[0]} x {values.shape[1]}.",
                hint=f"Set do_resize and size in {FILE}.",
            )
        values = values.reshape(*values.shape[:2], self.channels).astype(np.float32)
        if s["do_rescale"]:
            values = values * np.float32(s["rescale_factor"]) - np.float32(bool(s.get("rescale_offset")))
        if s["do_normalize"]:
            values = (values - self._per_channel("image_mean")) / self._per_channel("image_std")
        if s.get("include_top"):
            values = values / self._per_channel("image_std")
        if s.get("do_flip_channel_order"):
            values = values[..., ::-1]
        return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32), original_size

    def described(self) -> dict[str, Any]:
        """What counts of the settings: equal where two encoders make the same pixel values of an image."""
        s = self._settings
        settings: dict[str, Any] = {"channels": self.channels, "image_size": self.size}
        if s["family"] in ("ConvNext", "Levit", "Yolos"):  # which resize in their own way
            settings["family"] = s["family"]
        changing = {name for names in STEPS.values() for name in names} - {"do_pad", "do_reduce_labels"}
        settings |= {name: s[name] for name in sorted(changing) if s.get(name)}
        if s["do_resize"]:
            edges = isinstance(s["size"], dict) and "height" not in s["size"]
            settings |= {"size": s["size"] if edges else _pair(s["size"]), "resample": int(s["resample"])}
        if s["do_center_crop"]:
            settings["crop_size"] = _pair(s["crop_size"])
        if s["do_rescale"]:
            settings["rescale_factor"] = s["rescale_factor"]
        if s["do_normalize"]:
            for name in ("image_mean", "image_std"):
                settings[name] = np.broadcast_to(self._per_channel(name), self.channels).tolist()
        return settings

    def _per_channel(self, name: str) -> np.ndarray:
        values = np.array(self._settings[name], dtype=np.float32).reshape(-1)
        if len(values) not in (1, self.channels):
            raise CheckpointError(
                f"Expected {name} for {self.channels} channels in {FILE}, received {len(values)} values."
            )
        return values


def image_size(config: dict[str, Any], settings: dict[str, Any]) -> tuple[int, int]:
    """Height and width of what the model is fed: config.json's, or, where it takes any, what is made here."""
    stated = vision_of(config).get("image_size")
    if stated is not None and config.get("model_type") not in ANY_SIZE:
        return _pair(stated)
    size = settings["size"]
    edge = size.get("shortest_edge") if isinstance(size, dict) else None
    if settings["family"] in BOUNDING and settings["do_resize"] and isinstance(size, dict):
        sides = (edge, edge) if edge else (size.get("max_height"), size.get("max_width"))
        return _multiples(_pair(size), settings) if "height" in size else _bounded(sides, settings)
    if settings["do_center_crop"]:
        return _pair(settings["crop_size"])
    if settings["do_resize"] and settings["family"] == "ConvNext" and edge:
        return int(edge), int(edge)
    if settings["do_resize"] and edge is None:
        return _pair(size)
    return _pair(stated if stated is not None else 224)


def input_shape(folder: Path) -> tuple[int, int, int] | None:
    """Channels, height and width of the images that the model in `folder` takes; None for no such model."""
    config = read_json(folder / "config.json", CheckpointError) if (folder / "config.json").exists() else {}
    if (folder / FILE).exists():
        encoder = PixelEncoder(folder)
        return (encoder.channels, *encoder.size)
    stated = vision_of(config)
    if stated.get("image_size") is None:
        return None
    return (int(stated.get("num_channels") or 3), *_pair(stated["image_size"]))


def reading(folder: Path) -> dict[str, Any] | None:
    """How the model in `folder` reads images (`PixelEncoder.described`); None where it reads none."""
    return PixelEncoder(folder).described() if (folder / FILE).exists() else None


def _on_white(image: Image.Image) -> Image.Image:
    """`image` without transparency, as transformers' convert_to_rgb makes it."""
    from PIL import Image

    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)


def open_image(item: object, position: int, mode: str) -> Image.Image:
    """A Pillow image; one from a file has `mode`, and may still name a colour that is transparent."""
    try:
        from PIL import Image, ImageOps
    except ImportError as reason:
        raise MissingDependency.of("PIL", "images") from reason
    if isinstance(item, dict) and ("bytes" in item or "path" in item):  # an undecoded Image of `datasets`
        item = item.get("bytes") or item.get("path")
    if isinstance(item, Image.Image):
        return item
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8 or item.ndim not in (2, 3) or not item.size:
            raise DataError(
                f"Expected an image as an array of bytes (height, width[, channels]) at position {position}, "
                f"received {item.dtype} of shape {item.shape}."
            )
        return Image.fromarray(item.squeeze(-1) if item.shape[2:] == (1,) else item)
    if not isinstance(item, (str, Path, bytes)):
        raise DataError(
            f"Expected an image or its path at position {position}, received {type(item).__name__}."
        )
    where = f"position {position}"
    with images.opened(item, where) as opened:
        if opened.mode in ("I", "F") or opened.mode.startswith("I;"):
            raise DataError(
                f"Expected an image of 8 bits a channel at {where}, received one of mode {opened.mode}, of "
                "which what is brighter than 255 would become white.",
                hint="Scale its values to 0 to 255 and save it with 8 bits.",
            )
        ImageOps.exif_transpose(opened, in_place=True)  # as transformers opens files
        return opened if opened.mode == mode else opened.convert(mode)


def _resized(given: tuple[int, int], s: dict[str, Any]) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """(width, height) to resize to, and the (height, width) that the family itself cuts out of that."""
    size, family = s["size"], s["family"]
    edge = size.get("shortest_edge") if isinstance(size, dict) else None
    if family in BOUNDING and "height" not in size:
        high, wide = _bounded(given[::-1], s)
        return (wide, high), None
    if edge is None:
        if family == "ConvNext":
            raise CheckpointError(f"Expected shortest_edge as size in {FILE}, received {size}.")
        high, wide = _multiples(_pair(size), s)
        return (wide, high), None
    if "longest_edge" in size:
        raise CheckpointError(f"{FILE} bounds the longest edge too, which optkit does not do.")
    edge = int(edge)
    if family == "ConvNext":
        if edge >= 384:
            return (edge, edge), None
        return _shorter(given, int(edge / s["crop_pct"])), (edge, edge)
    return _shorter(given, int(256 / 224 * edge) if family == "Levit" else edge), None


def _bounded(given: Any, s: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of an image of `given` such size, within the edges of DETR's processors.

    Source: transformers' `get_size_with_aspect_ratio`, `get_image_size_for_max_height_width`.
    """
    size, (height, width) = s["size"], given
    if {"max_height", "max_width"} <= set(size) and "shortest_edge" not in size:
        scale = min(size["max_height"] / height, size["max_width"] / width)
        return _multiples((int(height * scale), int(width * scale)), s)
    if not {"shortest_edge", "longest_edge"} <= set(size):
        raise CheckpointError(
            f"Expected height and width, shortest_edge and longest_edge, or max_height and max_width as size "
            f"in {FILE}, received {size}.",
            hint="Add the one that is missing.",
        )
    low, high = min(height, width), max(height, width)
    edge, other = int(size["shortest_edge"]), None
    if high / low * edge > size["longest_edge"]:
        exact = size["longest_edge"] * low / high
        edge, other = round(exact), int(exact * high / low)
    if other is None:
        other = int(edge * high / low)
    if low == edge and (s["family"] != "Yolos" or height <= width):
        other = high
    tall, wide = (other, edge) if width < height else (edge, other)
    step = 16 if s["family"] == "Yolos" else 1
    return _multiples((tall - tall % step, wide - wide % step), s)


def _multiples(size: tuple[int, int], s: dict[str, Any]) -> tuple[int, int]:
    """Both sides rounded up to whole multiples of `size_divisor`, in the families that have one."""
    step = int(s.get("size_divisor") or 1)
    return size[0] + -size[0] % step, size[1] + -size[1] % step


def _shorter(given: tuple[int, int], edge: int) -> tuple[int, int]:
    """`given` (width, height) so that the shorter edge gets `edge` pixels."""
    width, height = given
    if width <= height:
        return edge, int(edge * height / width)
    return int(edge * width / height), edge


def _cropped(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The centre of (height, width[, channels]); where the image is smaller, zeros around it."""
    height, width = size
    low = max(0, height - values.shape[0]), max(0, width - values.shape[1])
    if any(low):
        edges = [(n // 2 + n % 2, n // 2) for n in low]
        values = np.pad(values, [*edges, *[(0, 0)] * (values.ndim - 2)])
    top, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    return values[top : top + height, left : left + width]


def _pair(size: int | list[int] | tuple[int, int] | dict[str, int]) -> tuple[int, int]:
    """Height and width from a number, a list, or {"height", "width"}."""
    if isinstance(size, dict):
        if not {"height", "width"} <= set(size):
            raise CheckpointError(f"Expected height and width in {FILE}, received {size}.")
        return int(size["height"]), int(size["width"])
    if isinstance(size, (list, tuple)):
        return int(size[0]), int(size[1])
    return int(size), int(size)
