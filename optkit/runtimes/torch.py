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

        from optkit.checkpoint import load_model, model_inputs

        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._model: Any = load_model(artifact, trust_remote_code=trust_remote_code)
        self.inputs = tuple(
            TensorSpec(name, "int64", ("batch", "sequence")) for name in model_inputs(self._model)
        )
        self.outputs = (TensorSpec("logits", "float32", ("batch", self._model.config.num_labels)),)

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        with self._torch.inference_mode():
            tensors = {name: self._torch.from_numpy(a) for name, a in self.select(feeds).items()}
            return {"logits": self._model(**tensors).logits.numpy()}

    def close(self) -> None:
        self._model = None


def open_session(artifact: Artifact, **options: Any) -> TorchSession:
    return TorchSession(artifact, **options)
