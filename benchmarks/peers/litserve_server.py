"""LitServe with the same ONNX file and tokenizer, and its dynamic batching on.

Run: python litserve_server.py ARTIFACT PORT
"""

import sys
from pathlib import Path

import litserve
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

LABELS = ("negative", "positive")


class Classifier(litserve.LitAPI):
    def __init__(self, folder: str) -> None:
        super().__init__(max_batch_size=32, batch_timeout=0.002)
        self.folder = Path(folder)

    def setup(self, device) -> None:
        self.tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(128)
        self.tokenizer.enable_padding()
        self.session = onnxruntime.InferenceSession(str(self.folder / "model.onnx"))
        self.names = [x.name for x in self.session.get_inputs()]

    def decode_request(self, request):
        return request["text"]

    def batch(self, inputs):
        return inputs

    def predict(self, texts):
        encoded = self.tokenizer.encode_batch(texts)
        feeds = {
            "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
            "attention_mask": np.array([e.attention_mask for e in encoded], dtype=np.int64),
            "token_type_ids": np.array([e.type_ids for e in encoded], dtype=np.int64),
        }
        (logits,) = self.session.run(["logits"], {name: feeds[name] for name in self.names})
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, row):
        return {"label": LABELS[int(row.argmax())], "score": float(row.max())}


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(sys.argv[1]), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
