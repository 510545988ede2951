"""What cuts texts that are too long into windows."""

from __future__ import annotations

from typing import Any

from optkit.benchmarking.reference.base import Row, TextReference, split


class Windowed(TextReference):
    """Texts that are too long are cut into windows that share a quarter of their tokens."""

    def windows(self, *texts: list[Any], **how: Any) -> list[Row]:
        """A row per window; `found` is what the tokenizer gave, `owner` the text of each window."""
        length = self.limit or 512
        self.encoding = self.tokenizer(
            *texts, max_length=length, stride=length // 4, return_overflowing_tokens=True, **how
        )
        self.owner = self.encoding.pop("overflow_to_sample_mapping")
        return split(self.encoding)
