"""`PixelEncoder`: images to pixel values with Pillow and numpy alone, as preprocessor_config.json says.

The steps and their order are those of transformers' image processors (Pillow variants): convert, resize,
crop the centre, rescale, normalise. Serving needs neither torch nor transformers for it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optkit.architectures import ANY_SIZE, vision_of
from optkit.errors import CheckpointError, DataError, MissingDependency, OptkitError
from optkit.examples import EncodedSet
from optkit.files import read_json

_FILE = "preprocessor_config.json"
#: Steps that change the pixels and are not done here.
_UNKNOWN_STEPS = (
    *("do_pad", "do_flip_channel_order", "do_thumbnail", "do_align_long_axis", "do_reduce_labels"),
    *("crop_pct", "include_top", "rescale_offset", "use_square_size"),
)
#: What holds where preprocessor_config.json says nothing: ViTImageProcessor's own defaults.
_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": 224,
    "resample": 2,
    "do_center_crop": False,
    "crop_size": 224,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5],
    "image_std": [0.5],
}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
#: A number for `size` is the shorter edge's.
_SHORTEST = {"size": {"shortest_edge": 224}, "do_center_crop": True, "default_to_square": False}
#: Image processors that do these steps and no others, and where their defaults differ from ViT's.
_LIKE_VIT: dict[str, dict[str, Any]] = {
    "ViT": {},
    "Beit": {"resample": 3},
    "Bit": {"resample": 3, **_SHORTEST, **_OPENAI},
    "Blip": {"resample": 3, "size": 384, **_OPENAI},
    "CLIP": {"resample": 3, **_SHORTEST, **_OPENAI},
    "ChineseCLIP": {"resample": 3, **_SHORTEST, **_OPENAI},
    "DeiT": {"resample": 3, "size": 256, "do_center_crop": True},
    "MobileNetV1": {**_SHORTEST, "size": {"shortest_edge": 256}},
    "MobileNetV2": {**_SHORTEST, "size": {"shortest_edge": 256}},
    "Pvt": {"resample": 3, **_IMAGENET},
    "Segformer": {"size": 512, **_IMAGENET},
    "Siglip": {"resample": 3, "size": {"height": 224, "width": 224}, "default_to_square": False},
}
#: The most pixels of an image, as it comes and resized: a few bytes of PNG can stand for gigabytes.
MOST_PIXELS = 50_000_000


class PixelEncoder:
    """Encodes images as `pixel_values`, (channels, height, width), float32.

    An image is a path, the bytes of a file, a Pillow image, or an array (height, width[, channels])
    of bytes. `channels` (1 or 3) is what the model takes: images are converted to it.
    """

    def __init__(self, folder: Path) -> None:
        file = folder / _FILE
        if not file.exists():
            raise CheckpointError(
                f"Expected {_FILE} in {str(folder)!r}; it is missing.",
                hint="Save it there: AutoImageProcessor.from_pretrained(NAME).save_pretrained(FOLDER).",
            )
        self._settings = _settings(file)
        config = read_json(folder / "config.json", CheckpointError)
        self.channels = int(vision_of(config).get("num_channels", 3))
        self.size = _size_of(config, self._settings)
        if self.channels not in (1, 3):
            raise CheckpointError(f"Expected a model of 1 or 3 channels, received {self.channels}.")

    def encode(self, images: Sequence[Any]) -> EncodedSet:
        """Raises DataError where an item is no image, or its size after these steps is not the model's."""
        return EncodedSet({"pixel_values": [self._pixels(image, i) for i, image in enumerate(images)]}, {})

    def _pixels(self, item: Any, place: int) -> np.ndarray:
        s = self._settings
        image = _open(item, place).convert("L" if self.channels == 1 else "RGB")
        if s["do_resize"]:
            target = _target(image.size, s["size"])
            _refuse_too_large(target, place)
            image = image.resize(target, resample=int(s["resample"]))
        values = np.asarray(image)
        if s["do_center_crop"]:
            values = _cropped(values, _pair(s["crop_size"]))
        if values.shape[:2] != self.size:
            raise DataError(
                f"Expected an image of {self.size[0]} x {self.size[1]} pixels at position {place} (the "
                f"model's image_size), received {values.shape[0]} x {values.shape[1]}.",
                hint=f"Set do_resize and size in {_FILE}.",
            )
        values = values.reshape(*self.size, self.channels).astype(np.float32)
        if s["do_rescale"]:
            values = values * np.float32(s["rescale_factor"])
        if s["do_normalize"]:
            values = (values - self._per_channel("image_mean")) / self._per_channel("image_std")
        return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)

    def described(self) -> dict[str, Any]:
        """What counts of the settings: equal where two encoders make the same pixel values of an image."""
        s = self._settings
        found: dict[str, Any] = {"channels": self.channels, "image_size": self.size}
        if s["do_resize"]:
            shortest = isinstance(s["size"], dict) and "shortest_edge" in s["size"]
            found |= {"size": s["size"] if shortest else _pair(s["size"]), "resample": int(s["resample"])}
        if s["do_center_crop"]:
            found["crop_size"] = _pair(s["crop_size"])
        if s["do_rescale"]:
            found["rescale_factor"] = s["rescale_factor"]
        if s["do_normalize"]:
            for name in ("image_mean", "image_std"):
                found[name] = np.broadcast_to(self._per_channel(name), self.channels).tolist()
        return found

    def _per_channel(self, name: str) -> np.ndarray:
        values = np.array(self._settings[name], dtype=np.float32).reshape(-1)
        if len(values) not in (1, self.channels):
            raise CheckpointError(
                f"Expected {name} for {self.channels} channels in {_FILE}, received {len(values)} values."
            )
        return values


def _settings(file: Path) -> dict[str, Any]:
    """What `file` says, with the defaults of its image processor. Raises CheckpointError for other steps."""
    stated = read_json(file, CheckpointError)
    for name in _UNKNOWN_STEPS:
        if stated.get(name):
            raise CheckpointError(
                f"Expected steps that ViTImageProcessor has, received {name} in {str(file)!r}, which optkit "
                "does not do.",
                hint="Take a checkpoint without it: its pixel values would be wrong here.",
            )
    key = "image_processor_type" if stated.get("image_processor_type") else "feature_extractor_type"
    processor = str(stated.get(key) or "ViTImageProcessor")
    family = re.sub("(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", processor)
    if family not in _LIKE_VIT:
        raise CheckpointError(
            f"Expected {key} of {', '.join(_LIKE_VIT)} in {str(file)!r}, received {processor!r}.",
            hint="Take a checkpoint with one of these: what others do to an image, optkit does not do.",
        )
    settings = {**_DEFAULTS, **_LIKE_VIT[family], **stated}
    if isinstance(settings["size"], int) and not settings.get("default_to_square", True):
        settings["size"] = {"shortest_edge": settings["size"]}  # older files hold a number
    return settings


def _size_of(config: dict[str, Any], settings: dict[str, Any]) -> tuple[int, int]:
    """What the model takes, by its image_size; where it states none, or takes any, what these steps give."""
    stated = vision_of(config).get("image_size")
    given = settings["crop_size"] if settings["do_center_crop"] else settings["size"]
    fixed = settings["do_center_crop"] or not (isinstance(given, dict) and "shortest_edge" in given)
    if fixed and (stated is None or config.get("model_type") in ANY_SIZE):
        return _pair(given)
    return _pair(224 if stated is None else stated)


def reading(folder: Path) -> dict[str, Any] | None:
    """How the model in `folder` reads images (`PixelEncoder.described`); None where it reads none."""
    return PixelEncoder(folder).described() if (folder / _FILE).exists() else None


def _open(item: Any, place: int) -> Any:
    try:
        from PIL import Image, ImageOps
    except ImportError as reason:
        raise MissingDependency.of("PIL", "images") from reason
    if isinstance(item, dict) and ("bytes" in item or "path" in item):  # an undecoded Image of `datasets`
        item = item.get("bytes") or item.get("path")
    if isinstance(item, Image.Image):
        return item
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8 or item.ndim not in (2, 3):
            raise DataError(
                f"Expected an image as an array of bytes (height, width[, channels]) at position {place}, "
                f"received {item.dtype} of shape {item.shape}."
            )
        return Image.fromarray(item.squeeze(-1) if item.shape[2:] == (1,) else item)
    if not isinstance(item, (str, Path, bytes)):
        raise DataError(f"Expected an image or its path at position {place}, received {type(item).__name__}.")
    try:
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item) as opened:
            _refuse_too_large(opened.size, place)  # known before anything is decoded
            opened.load()
            return ImageOps.exif_transpose(opened)  # as transformers opens files
    except OptkitError:
        raise
    except Exception as reason:  # Pillow raises SyntaxError and others for damaged files
        shown = "bytes" if isinstance(item, bytes) else repr(str(item))
        raise DataError(f"Cannot read an image from {shown} at position {place}: {reason}.") from reason


def _refuse_too_large(size: tuple[int, int], place: int) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise DataError(
            f"Expected an image of at most {MOST_PIXELS:,} pixels at position {place}, as it is and resized, "
            f"received {size[0]} x {size[1]}.",
            hint="Make it smaller, or cut the long edge.",
        )


def _target(given: tuple[int, int], size: Any) -> tuple[int, int]:
    """(width, height): `size`'s own, or so that the shorter edge of `given` gets `shortest_edge` pixels."""
    if isinstance(size, dict) and "shortest_edge" in size:
        if "longest_edge" in size:
            raise CheckpointError(f"{_FILE} bounds the longest edge too, which optkit does not do.")
        shortest, (width, height) = int(size["shortest_edge"]), given
        if width <= height:
            return shortest, int(shortest * height / width)
        return int(shortest * width / height), shortest
    high, wide = _pair(size)
    return wide, high


def _cropped(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The centre of (height, width[, channels]); where the image is smaller, zeros around it."""
    height, width = size
    low = max(0, height - values.shape[0]), max(0, width - values.shape[1])
    if any(low):
        edges = [(n // 2 + n % 2, n // 2) for n in low]
        values = np.pad(values, [*edges, *[(0, 0)] * (values.ndim - 2)])
    top, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    return values[top : top + height, left : left + width]


def _pair(size: Any) -> tuple[int, int]:
    """Height and width from a number, a list, or {"height", "width"}."""
    if isinstance(size, dict):
        if not {"height", "width"} <= set(size):
            raise CheckpointError(f"Expected height and width in {_FILE}, received {size}.")
        return int(size["height"]), int(size["width"])
    if isinstance(size, (list, tuple)):
        return int(size[0]), int(size[1])
    return int(size), int(size)
