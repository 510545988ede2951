"""Classifiers of images, as transformers opens files and prepares them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.base import Outputs
from optkit.benchmarking.reference.files import FileReference
from optkit.benchmarking.reference.text_classification import TextClassification
from optkit.data import provoking

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers.modeling_outputs import ModelOutput

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
        return np.asarray(self.processor(images=self.image(file), return_tensors="np")["pixel_values"][0])

    def image(self, file: str) -> Image.Image:
        from PIL import Image, ImageOps
        from transformers.image_utils import load_image

        grey = getattr(self.model.config, "num_channels", 3) == 1
        return ImageOps.exif_transpose(Image.open(file)).convert("L") if grey else load_image(file)

    def provoking(self) -> Iterable[tuple[str, bytes]]:
        return provoking.images()


class OneByOne(ImageReference):
    """As transformers' pipelines run it, an image at a time: `names` of its outputs, and its own size."""

    names: tuple[str, ...]

    def logits(self, answer: ModelOutput) -> Mapping[str, torch.Tensor]:
        """The outputs by name, of what the model answers."""
        return answer

    def outputs(self, rows: Sequence[Any], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        import torch

        arrays: Outputs = {name: [] for name in (*self.names, "size")}
        for number, file in enumerate(inputs):
            image = self.image(file)
            feeds = self.processor(images=image, return_tensors="pt")
            feeds = {name: value.to(self.device) for name, value in feeds.items() if name in self.takes}
            with torch.inference_mode():
                answer = self.logits(self.model(**feeds))
            for name in self.names:
                arrays[name].append(answer[name][0].float().cpu().numpy())
            arrays["size"].append(np.array([image.height, image.width], dtype=np.int64))
            self.progress(number + 1)
        return arrays


class ImageClassification(ImageReference):
    auto = "AutoModelForImageClassification"
    answers = TextClassification.answers


REFERENCE = ImageClassification
