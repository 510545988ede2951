"""torch for a model of two towers: transformers' own `get_text_features` and `get_image_features`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optkit.core.artifact import Artifact
from optkit.errors import OptkitError
from optkit.models.pixels import PixelEncoder
from optkit.models.tokenization import read
from optkit.runtimes.base import Feeds, Setting
from optkit.runtimes.torch import TorchSession
from optkit.runtimes.towers import IDS, MASK, TowersSession

if TYPE_CHECKING:
    import torch


class TorchTowers(TowersSession, TorchSession):
    """A checkpoint as its users run it."""

    def __init__(self, artifact: Artifact, **options: Setting) -> None:
        if options.get("compile") or options.get("quantize"):
            raise OptkitError(
                "A model of two towers is neither compiled nor quantized in torch.",
                hint="compress --int8 makes ONNX graphs of it.",
            )
        TorchSession.__init__(self, artifact, **options)
        images = PixelEncoder(artifact.path)
        names = tuple(n for n in (IDS, MASK) if n == IDS or n in read(artifact.path).inputs)
        config = self._model.config
        width = getattr(config, "projection_dim", None) or config.text_config.projection_size
        self._specify((images.channels, *images.size), names, width)

    def text_tower(self, feeds: Feeds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with self._torch.inference_mode():
            tensors = {name: self._tensor(x) for name, x in feeds.items()}
            vectors = self._model.get_text_features(**tensors).pooler_output
            scale, bias = scale_and_bias(self._model, len(vectors))
        return self._array(vectors), self._array(scale), self._array(bias)

    def image_tower(self, pixel_values: np.ndarray) -> np.ndarray:
        with self._torch.inference_mode():
            return self._array(
                self._model.get_image_features(pixel_values=self._tensor(pixel_values)).pooler_output
            )

    def _array(self, tensor: torch.Tensor) -> np.ndarray:
        array: np.ndarray = tensor.detach().float().cpu().numpy()
        return array


def scale_and_bias(model: torch.nn.Module, texts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a cosine of each of so many `texts` is multiplied by to be a logit of `model`, and what is added:
    (texts,) each. CLIP adds nothing."""
    scale = model.logit_scale.exp().reshape(1)
    bias = model.logit_bias.reshape(1) if hasattr(model, "logit_bias") else scale * 0
    return scale.expand(texts), bias.expand(texts)
