"""Text to text as its users run it: `generate` of transformers, and its tokenizer's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optkit.benchmarking.reference.base import BATCH, Outputs, Row, TextReference, split


class Text2Text(TextReference):
    """`generate` with the checkpoint's generation config, and `batch_decode`."""

    auto = "AutoModelForSeq2SeqLM"

    def rows(self, inputs: Sequence[Any]) -> list[Row]:
        prefix = getattr(self.model.config, "prefix", None) or ""
        return split(self.tokenizer([prefix + x for x in inputs], truncation=True, max_length=self.limit))

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        import torch

        sequences: list[np.ndarray] = [np.empty(0)] * len(rows)
        longest = self.most_tokens() - 1
        for part in self._batches([len(row["input_ids"]) for row in rows], 1 if alone else BATCH):
            names = [n for n in ("input_ids", "attention_mask") if n in rows[part[0]]]
            columns = {n: [rows[i][n] for i in part] for n in names}
            batch = self.tokenizer.pad(columns, padding=True, return_tensors="pt").to(self.device)
            with torch.inference_mode():
                written = self.model.generate(**{n: batch[n] for n in names})[:, 1:].cpu().tolist()
            for i, tokens in zip(part, written):
                end = next((p + 1 for p, t in enumerate(tokens) if t in self.ends()), len(tokens))
                sequences[i] = np.array(tokens[:end] + [-1] * (longest - end), dtype=np.int64)
            self.progress(len(part))
        return {"sequences": sequences}

    def ends(self) -> list[int]:
        ends = self.model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [] if ends is None else [ends]

    def most_tokens(self) -> int:
        """The longest text, its start included."""
        config = self.model.generation_config
        if config.max_new_tokens is not None:
            return config.max_new_tokens + 1
        if config.max_length is not None:
            return config.max_length
        return min(21, getattr(self.model.config, "max_position_embeddings", 21))

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Any]:
        texts = [row[row >= 0].tolist() for row in outputs["sequences"]]
        return self.tokenizer.batch_decode(texts, skip_special_tokens=True)


REFERENCE = Text2Text
