"""Triton's Python backend: texts of several requests → one call of the graph → each request's answers.

Runs inside of Triton, with numpy and tokenizers and nothing of optkit's. Copied into the repository by
`optkit package --format triton`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        here = Path(args["model_repository"]) / args["model_version"]
        self.settings = json.loads((here / "settings.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(here / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = self.settings["split_special_tokens"]
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(
            self.settings["max_tokens"], direction=self.settings["truncation_side"]
        )
        self.labels = self.settings["labels"]

    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        read = [self._texts(request) for request in requests]
        texts = [text for each in read if isinstance(each, list) for text in each]
        outputs, error = self._infer(texts) if texts else ({}, None)
        responses, first = [], 0
        for each in read:
            if not isinstance(each, list):
                responses.append(pb_utils.InferenceResponse([], error=each))
                continue
            part = {name: value[first : first + len(each)] for name, value in outputs.items()}
            first += len(each)
            tensors = [pb_utils.Tensor(name, value) for name, value in part.items()]
            responses.append(pb_utils.InferenceResponse(tensors, error=error))
        return responses

    def _texts(self, request: pb_utils.InferenceRequest) -> list[Any] | pb_utils.TritonError:
        """The texts of a request, or its pairs of texts; an error where they are not in UTF-8."""
        given = [pb_utils.get_input_tensor_by_name(request, name) for name in self.settings["texts"]]
        raw = [tensor.as_numpy().reshape(-1) for tensor in given if tensor is not None]
        try:
            columns = [[self.settings["prompt"] + text.decode("utf-8") for text in column] for column in raw]
        except UnicodeDecodeError:
            return pb_utils.TritonError("Expected texts in UTF-8.")
        return columns[0] if len(columns) == 1 else list(zip(*columns))

    def _infer(self, texts: list[Any]) -> tuple[dict[str, np.ndarray], pb_utils.TritonError | None]:
        """The outputs of all texts padded together, and an error or None."""
        encoded = self.tokenizer.encode_batch(texts)
        longest = max(len(e.ids) for e in encoded)
        shape = (len(texts), longest)
        feeds = {name: np.zeros(shape, dtype=np.int64) for name in self.settings["inputs"]}
        feeds["input_ids"][:] = self.settings["pad_id"]
        for row, e in enumerate(encoded):
            types = e.type_ids if self.settings["gives_types"] else 0
            values = {"input_ids": e.ids, "attention_mask": e.attention_mask, "token_type_ids": types}
            for name, feed in feeds.items():
                feed[row, : len(e.ids)] = values[name]
        request = pb_utils.InferenceRequest(
            model_name=self.settings["model"],
            inputs=[pb_utils.Tensor(name, feed) for name, feed in feeds.items()],
            requested_output_names=self.settings["outputs"],
        )
        response = request.exec()
        if response.has_error():
            return {}, pb_utils.TritonError(response.error().message())
        names = self.settings["outputs"]
        outputs = {n: pb_utils.get_output_tensor_by_name(response, n).as_numpy() for n in names}
        if self.labels:
            outputs.update(self._classify(outputs["logits"]))
        return outputs, None

    def _classify(self, logits: np.ndarray) -> dict[str, np.ndarray]:
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = shifted / shifted.sum(axis=1, keepdims=True)
        best = shares.argmax(axis=1)
        labels = np.array([[self.labels[i].encode()] for i in best], dtype=object)
        return {"label": labels, "score": shares.max(axis=1, keepdims=True).astype(np.float32)}
