"""Classifiers of images, as transformers opens files and prepares them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from optkit.benchmarking.reference.files import FileReference
from optkit.benchmarking.reference.text_classification import TextClassification
from optkit.data import provoking

#: How far pixel values may lie apart where both resize with Pillow: rounding of float32.
PIXELS = 1e-3
#: The same in steps of 1/255 where transformers resizes with torchvision, which rounds otherwise.
STEPS = 3


class ImageReference(FileReference):
    """`AutoImageProcessor` over files as `transformers.image_utils.load_image` opens them."""

    feature = "pixel_values"

    def load(self) -> None:
        from transformers import AutoImageProcessor

        super().load()
        self.processor = AutoImageProcessor.from_pretrained(str(self.folder), **self.trusted)

    @property
    def allowed(self) -> float:
        """optkit resizes with Pillow, as a processor with the backend `pil` does."""
        if getattr(self.processor, "backend", "pil") == "pil":
            return PIXELS
        scale = getattr(self.processor, "rescale_factor", None) or 1.0
        return STEPS * scale / float(np.min(np.atleast_1d(getattr(self.processor, "image_std", None) or 1.0)))

    def features(self, file: str) -> np.ndarray:
        """Shape (channels, height, width)."""
        from PIL import Image, ImageOps
        from transformers.image_utils import load_image

        grey = getattr(self.model.config, "num_channels", 3) == 1
        image = ImageOps.exif_transpose(Image.open(file)).convert("L") if grey else load_image(file)
        return np.asarray(self.processor(images=image, return_tensors="np")["pixel_values"][0])

    def provoking(self) -> Iterable[tuple[str, bytes]]:
        return provoking.images()


class ImageClassification(ImageReference):
    auto = "AutoModelForImageClassification"
    answers = TextClassification.answers


REFERENCE = ImageClassification
