"""OpenVINO for a model of two towers, each of which is compiled by itself (`optkit.runtimes.towers`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from optkit.core.artifact import Artifact
from optkit.runtimes.base import Feeds, Setting
from optkit.runtimes.openvino import OpenVinoSession, model_file
from optkit.runtimes.towers import IMAGE, IMAGE_OUTPUTS, PIXELS, TEXT, TEXT_OUTPUTS, TowersSession


class _Text(OpenVinoSession):
    def _file(self, artifact: Artifact) -> Path:
        return model_file(artifact, TEXT)


class _Image(OpenVinoSession):
    def _file(self, artifact: Artifact) -> Path:
        return model_file(artifact, IMAGE)


class OpenVinoTowers(TowersSession, OpenVinoSession):
    """Both models of one artifact, with the same settings."""

    def __init__(self, artifact: Artifact, **options: Setting) -> None:
        self._text, self._image = _Text(artifact, **options), _Image(artifact, **options)
        self.precision, self._stateful = self._text.precision, False
        _, *image = self._image.inputs[0].shape
        width = self._image.outputs[0].shape[-1]
        self._specify(tuple(image), tuple(x.name for x in self._text.inputs), width)

    def text_tower(self, feeds: Feeds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        answer = self._text.infer(feeds)
        vectors, scale, bias = (answer[name] for name in TEXT_OUTPUTS)
        return vectors, scale, bias

    def image_tower(self, pixel_values: np.ndarray) -> np.ndarray:
        return self._image.infer({PIXELS: pixel_values})[IMAGE_OUTPUTS[0]]

    def close(self) -> None:
        self._text.close()
        self._image.close()
