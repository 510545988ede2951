"""Torch eager: the baseline every factor is measured against, and the runtime of `hf` artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from optkit.artifact import Artifact
from optkit.session import Feeds, Session, TensorSpec


class TorchSession(Session):
    """The checkpoint in fp32 and evaluation mode, under `torch.inference_mode`."""

    def __init__(
        self, artifact: Artifact, threads: int | None = None, trust_remote_code: bool = False
    ) -> None:
        import torch

        from optkit.checkpoint import load_model, model_inputs, model_outputs

        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._model: Any = load_model(artifact, trust_remote_code=trust_remote_code)
        self.inputs = tuple(_input(name, self._model.config) for name in model_inputs(self._model))
        outputs = model_outputs(self._model)
        self.outputs = tuple(TensorSpec(name, "float32", shape) for name, shape in outputs.items())

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        with self._torch.inference_mode():
            tensors = {name: self._torch.from_numpy(a) for name, a in self.select(feeds).items()}
            answer = self._model(**tensors, return_dict=True)
            return {spec.name: answer[spec.name].numpy() for spec in self.outputs}

    def close(self) -> None:
        self._model = None


def open_session(artifact: Artifact, **options: Any) -> TorchSession:
    return TorchSession(artifact, **options)


def _input(name: str, config: Any) -> TensorSpec:
    if name != "pixel_values":
        return TensorSpec(name, "int64", ("batch", "sequence"))
    size = config.image_size
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return TensorSpec(name, "float32", ("batch", config.num_channels, height, width))
