"""torch for a model that writes a text from another: transformers' own `generate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core.artifact import Artifact
from optkit.errors import OptkitError
from optkit.runtimes.base import Feeds, Setting
from optkit.runtimes.search import Writer
from optkit.runtimes.search_settings import SearchSettings
from optkit.runtimes.seq2seq import Seq2SeqSession
from optkit.runtimes.speech import AS_STATED, FRAMES, SEGMENTS, SEQUENCES
from optkit.runtimes.torch import TorchSession

if TYPE_CHECKING:
    import torch
    from transformers import EncoderDecoderCache
    from transformers.modeling_outputs import ModelOutput


class TorchSeq2Seq(Seq2SeqSession, TorchSession):
    """A checkpoint as its users run it: `generate` with its generation config."""

    def __init__(self, artifact: Artifact, **options: Setting) -> None:
        if options.get("compile") or options.get("quantize"):
            raise OptkitError(
                "A model that writes a text from another is neither compiled nor quantized in torch.",
                hint="compress --int8 makes ONNX graphs of it.",
            )
        TorchSession.__init__(self, artifact, **options)
        self._configure(self._model.generation_config.to_dict(), self._model.config.to_dict())

    def write(self, feeds: Mapping[str, np.ndarray], settings: SearchSettings) -> np.ndarray:
        changed = {
            name: getattr(settings, name)
            for name in ("max_length", "min_length", "num_beams")
            if getattr(settings, name) != getattr(self.settings, name)
        }
        if "max_length" in changed:
            changed["max_new_tokens"] = changed.pop("max_length") - 1
        if "min_length" in changed:
            changed["min_new_tokens"] = changed.pop("min_length") - 1
        with self._torch.inference_mode():
            sources = {name: self._tensor(array) for name, array in feeds.items()}
            return self._model.generate(**sources, **changed)[:, 1:].cpu().numpy()

    def transcribe(self, features: np.ndarray, asked: np.ndarray, exactly: int | None) -> Feeds:
        assert self.speech is not None
        speech, (language, task, timestamps) = self.speech, asked.tolist()
        long = features.shape[2] > speech.window
        given: dict[str, Any] = {
            "language": next((name for name, token in speech.languages.items() if token == language), None),
            "task": next((name for name, token in speech.tasks.items() if token == task), None),
            "return_timestamps": True if long else None if timestamps == AS_STATED else bool(timestamps),
            "attention_mask": self._tensor(np.ones((len(features), features.shape[2]), dtype=np.int64)),
        }
        if exactly is not None:
            given |= {"max_new_tokens": exactly, "min_new_tokens": exactly, "return_timestamps": False}
        with self._torch.inference_mode():
            heard = self._model.generate(
                **{self.inputs[0].name: self._tensor(features)}, **given, return_segments=True
            )["segments"]
        tokens, cuts = (np.empty(len(features), dtype=object) for _ in range(2))
        for i, row in enumerate(heard):
            parts = [segment["tokens"].cpu().numpy() for segment in row]
            times = [[round(FRAMES * float(segment[end])) for end in ("start", "end")] for segment in row]
            tokens[i] = np.concatenate([np.empty(0, dtype=np.int64), *parts])
            cuts[i] = np.array([(*t, len(p)) for t, p in zip(times, parts)], dtype=np.int64).reshape(-1, 3)
        return {SEQUENCES: tokens, SEGMENTS: cuts}

    def writer(self, feeds: Mapping[str, np.ndarray], copies: int = 1) -> Writer:
        with self._torch.inference_mode():
            source = {n: self._tensor(np.repeat(a, copies, axis=0)) for n, a in self.select(feeds).items()}
            hidden = self._model.get_encoder()(**source, return_dict=True)
        return TorchWriter(self._model, hidden, source.get("attention_mask"), self._tensor)


class TorchWriter(Writer):
    """The decoder with transformers' own cache."""

    def __init__(
        self,
        model: torch.nn.Module,
        hidden: ModelOutput,
        mask: torch.Tensor | None,
        tensor: Callable[[np.ndarray], torch.Tensor],
    ) -> None:
        self._model, self._hidden, self._mask, self._tensor = model, hidden, mask, tensor
        self._cache: EncoderDecoderCache = None

    def step(self, tokens: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            answer = self._model(
                encoder_outputs=self._hidden,
                attention_mask=self._mask,
                decoder_input_ids=self._tensor(tokens),
                past_key_values=self._cache,
                use_cache=True,
                return_dict=True,
            )
        self._cache = answer.past_key_values
        return answer.logits[:, -1].float().cpu().numpy()

    def reorder(self, rows: np.ndarray) -> None:
        self._cache.reorder_cache(self._tensor(rows))
