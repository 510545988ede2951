"""ONNX Runtime for a model of two graphs, one for texts and one for images (`optkit.runtimes.towers`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, first_line
from optkit.runtimes.base import Feeds
from optkit.runtimes.onnxruntime import OnnxRuntimeSession
from optkit.runtimes.towers import IMAGE, IMAGE_OUTPUTS, PIXELS, TEXT, TEXT_OUTPUTS, TowersSession

if TYPE_CHECKING:
    import onnxruntime


class OnnxRuntimeTowers(TowersSession, OnnxRuntimeSession):
    """Both graphs of one artifact, with the same settings."""

    def _open(self, artifact: Artifact) -> None:
        self._text = self._loaded(artifact.path / TEXT)
        self._image = self._loaded(artifact.path / IMAGE)
        for name, session, outputs in (
            (TEXT, self._text, TEXT_OUTPUTS),
            (IMAGE, self._image, IMAGE_OUTPUTS),
        ):
            if [x.name for x in session.get_outputs()] != list(outputs) or not session.get_inputs():
                raise CheckpointError(
                    f"Expected {name} in {str(artifact.path)!r} to give {', '.join(outputs)}.",
                    hint="Make the artifact again: optkit compress writes both graphs.",
                )
        _, *image = self._image.get_inputs()[0].shape
        width = self._image.get_outputs()[0].shape[-1]
        self._specify(tuple(image), tuple(x.name for x in self._text.get_inputs()), width)

    def text_tower(self, feeds: Feeds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        vectors, scale, bias = _run(self._text, TEXT_OUTPUTS, feeds)
        return vectors, scale, bias

    def image_tower(self, pixel_values: np.ndarray) -> np.ndarray:
        return _run(self._image, IMAGE_OUTPUTS, {PIXELS: pixel_values})[0]

    def close(self) -> None:
        self._text = self._image = None


def _run(session: onnxruntime.InferenceSession, outputs: tuple[str, ...], feeds: Feeds) -> list[np.ndarray]:
    try:
        answer: list[np.ndarray] = session.run(list(outputs), feeds)
    except Exception as reason:
        raise CheckpointError(
            f"ONNX Runtime cannot answer with this model: {first_line(reason)}",
            hint="The tokenizer and the graphs do not fit each other, or memory is short.",
        ) from reason
    return answer
