"""`Reference`: a checkpoint that transformers loads, feeds and runs."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.models.uneven.key import CONFIG_KEY

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

    from optkit.core.reading import Json
    from optkit.tasks.labelled import Input

#: A row of token ids as the tokenizer gives it: name → (tokens,).
Row = dict[str, list[int]]
Outputs = dict[str, list[np.ndarray]]
#: Rows that go through the model together, and their tokens with the padding.
BATCH, TOKENS = 32, 8192
#: transformers writes this and more where a tokenizer has no stated limit.
_NO_LIMIT = 1_000_000


class Reference(ABC):
    """`folder` in the Auto class `auto`, fp32, on `device`; `doubts` collect what a reader should know.

    `progress` is told how many rows are answered. Errors are those of transformers.
    """

    auto: str
    #: The package that must be installed for it.
    package = "transformers"

    def __init__(self, folder: Path, trust_remote_code: bool = False, device: str = "cpu") -> None:
        self.folder, self.device, self.doubts = folder, device, list[str]()
        self.trusted: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        self.progress: Callable[[int], None] = lambda answered: None
        self.load()

    def load(self) -> None:
        import torch
        import transformers

        auto = getattr(transformers, self.auto)
        options = {"dtype": torch.float32, "use_safetensors": True, **self.trusted}
        config = transformers.AutoConfig.from_pretrained(str(self.folder), **self.trusted)
        if getattr(config, CONFIG_KEY, None) is None:
            self.model = auto.from_pretrained(str(self.folder), **options)
        else:
            from optkit.models.uneven.loading import from_pretrained

            self.model = from_pretrained(auto, str(self.folder), **options)
            self.doubts.append(
                "The checkpoint is pruned unevenly, which transformers cannot load: optkit's loader put the "
                "weights into transformers' model, whose forward is its own."
            )
        self.model = self.model.eval().to(self.device)
        self.takes = set(inspect.signature(self.model.forward).parameters)

    @abstractmethod
    def rows(self, inputs: Sequence[Input]) -> list[Any]:
        """What the model is fed for `inputs`, one row per example or window."""

    def provoked(self, inputs: Sequence[Input]) -> list[Any]:
        """The rows of inputs that are not scored."""
        return self.rows(inputs)

    @abstractmethod
    def outputs(self, rows: Sequence[Any], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        """Outputs per example; with `alone` each row goes through the model by itself, unpadded."""

    @abstractmethod
    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> Iterable[Json] | None:
        """What is scored, as JSON values; None where outputs are scored as they are."""


class TextReference(Reference):
    """A model of texts and its `AutoTokenizer`."""

    def load(self) -> None:
        from transformers import AutoTokenizer

        super().load()
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(self.folder), **self.trusted
        )
        self.limit = self._limit()

    def forward(self, rows: Sequence[Row], alone: bool = False) -> list[dict[str, np.ndarray]]:
        """The model's floating-point outputs of each row, padding cut off."""
        import torch

        outputs: list[dict[str, np.ndarray]] = [{}] * len(rows)
        size = 1 if alone or self.tokenizer.pad_token is None else BATCH
        if size == 1 and not alone and len(rows) > 1:
            self._say("The tokenizer has no padding token: transformers was given one text at a time.")
        answered = 0
        for part in self._batches([len(row["input_ids"]) for row in rows], size):
            try:
                self._run(rows, part, outputs)
            except ValueError as reason:  # "Cannot handle batch sizes > 1 if no padding token is defined."
                if len(part) == 1:
                    raise
                self._say(f"transformers takes one text at a time here: {str(reason).splitlines()[0]}")
                for one in part:
                    self._run(rows, [one], outputs)
            answered += len(part)
            self.progress(answered)
        assert not torch.is_grad_enabled() or all(outputs) or not rows
        return outputs

    def _run(self, rows: Sequence[Row], part: Sequence[int], outputs: list[dict[str, np.ndarray]]) -> None:
        import torch

        names = [name for name in rows[part[0]] if name in self.takes]
        columns = {name: [rows[i][name] for i in part] for name in names}
        padded = len({len(row) for row in columns["input_ids"]}) > 1
        if padded:
            batch = self.tokenizer.pad(columns, padding=True, return_tensors="pt")
            mask = self.tokenizer.pad({"input_ids": columns["input_ids"]}, padding=True)["attention_mask"]
        else:
            batch = {name: torch.tensor(values) for name, values in columns.items()}
            mask = np.ones(batch["input_ids"].shape, dtype=np.int64)
        with torch.inference_mode():
            answer = self.model(**{n: v.to(self.device) for n, v in batch.items() if n in names})
        length = np.shape(mask)[1]
        for name, value in answer.items():
            if not torch.is_tensor(value) or not value.is_floating_point() or len(value) != len(part):
                continue
            array = value.float().cpu().numpy()
            for position, i in enumerate(part):
                whole = array[position]
                per_token = padded and whole.ndim and whole.shape[0] == length and array.ndim > 2
                if padded and name in ("start_logits", "end_logits"):
                    per_token = True
                values = whole[np.array(mask[position]) == 1] if per_token else whole
                outputs[i] = {**outputs[i], name: values}
        for i in part:
            outputs[i] = self.scored(rows[i], outputs[i])

    def scored(self, row: Row, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What is needed of the model's outputs for one row."""
        return outputs

    @staticmethod
    def _batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
        """Rows of like lengths, longest first."""
        part: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            if part and (len(part) == size or (len(part) + 1) * lengths[part[0]] > TOKENS):
                yield part
                part = []
            part.append(i)
        if part:
            yield part

    def _say(self, doubt: str) -> None:
        if doubt not in self.doubts:
            self.doubts.append(doubt)

    def _limit(self) -> int | None:
        """How many tokens tokenizer and model take: what the one states, and the other has positions for."""
        limits = []
        if self.tokenizer.model_max_length < _NO_LIMIT:
            limits.append(int(self.tokenizer.model_max_length))
        config = self.model.config.get_text_config()
        positions = getattr(config, "max_position_embeddings", None)
        if isinstance(positions, int) and positions > 0:
            tables = [m for n, m in self.model.named_modules() if n.endswith("position_embeddings")]
            # RoBERTa and its kin count positions from behind the padding id.
            before = [m.padding_idx + 1 for m in tables if getattr(m, "padding_idx", None) is not None]
            limits.append(positions - max(before, default=0))
        return min(limits, default=None)


def split(encoding: BatchEncoding) -> list[Row]:
    """The rows of a `BatchEncoding` that is not padded."""
    names = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in encoding]
    return [{name: encoding[name][i] for name in names} for i in range(len(encoding["input_ids"]))]
