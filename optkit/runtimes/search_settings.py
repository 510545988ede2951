"""How an encoder-decoder model searches for its text: generation_config.json, read whole or refused.

A setting that `optkit.runtimes.search` does not follow is an error, whatever its value would change: a text
that is only nearly what `generate` writes is a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optkit.errors import CheckpointError, RecipeError
from optkit.models.limits import token_limit

#: What changes no token of a text that is searched for without drawing.
_SILENT = {
    *("_from_model_config", "transformers_version", "bos_token_id", "use_cache", "num_return_sequences"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
    *("return_dict_in_generate", "cache_implementation", "cache_config", "return_legacy_cache"),
    *("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("compile_config", "disable_compile", "continuous_batching_config", "prefill_chunk_size"),
    *("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_early_exit"),
    *("assistant_confidence_threshold", "assistant_lookbehind", "target_lookbehind", "low_memory"),
    *("max_matching_ngram_size",),
}
#: What is not followed here, with the values that leave a text as it is.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "do_sample": (False,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0.0,),
    "remove_invalid_values": (False,),
    "encoder_repetition_penalty": (1.0,),
    "encoder_no_repeat_ngram_size": (0,),
    "prompt_lookup_num_tokens": (),
    "dola_layers": (),
    "penalty_alpha": (0.0,),
}
_FOLLOWED = {
    *("decoder_start_token_id", "eos_token_id", "pad_token_id", "max_length", "max_new_tokens", "min_length"),
    *("min_new_tokens", "num_beams", "length_penalty", "early_stopping", "forced_bos_token_id"),
    *("forced_eos_token_id", "no_repeat_ngram_size", "repetition_penalty", "bad_words_ids"),
    *("suppress_tokens", "begin_suppress_tokens", "renormalize_logits"),
}
#: New tokens where nothing says how many: transformers' own default.
_NEW_TOKENS = 20
#: Tokens that a text may have at most, as a manifest may say it.
_LONGEST = 2**20


@dataclass(frozen=True)
class TimestampRules:
    """Whisper's rules for its tokens of time, which begin at `first`, one for each 20 ms.

    `latest` bounds the first of a text, `by_likelihood` wants one where all of them together are likelier
    than any other token. Source: transformers 5.23, `WhisperTimeStampLogitsProcessor`.
    """

    first: int
    latest: int | None = None
    by_likelihood: bool = True

    def apply(self, written: np.ndarray, scores: np.ndarray, settings: SearchSettings) -> None:
        """Set what is forbidden in `scores` (rows, vocabulary) behind `written` (rows, length) to -inf."""
        forbidden, end = np.float32(-np.inf), settings.ends[0]
        scores[:, self.first - 1] = forbidden  # <|notimestamps|>
        for row, tokens in zip(scores, written[:, settings.begin :].tolist()):
            last = len(tokens) >= 1 and tokens[-1] >= self.first
            one_before = len(tokens) < 2 or tokens[-2] >= self.first
            if last and one_before:  # they come in pairs
                row[self.first :] = forbidden
            elif last:  # the second of a pair, or the end
                row[:end] = forbidden
            if heard := [token for token in tokens if token >= self.first]:  # they never run back
                row[self.first : heard[-1] + (not last or one_before)] = forbidden
        if written.shape[1] == settings.begin:
            scores[:, : self.first] = forbidden
            if self.latest is not None:
                scores[:, self.first + self.latest + 1 :] = forbidden
        if self.by_likelihood:
            text, times = scores[:, : self.first].max(axis=1), scores[:, self.first :]
            most = np.maximum(times.max(axis=1), np.float32(-1e30))
            likelihood = most + np.log(np.maximum(np.exp(times - most[:, None]).sum(axis=1), 1e-30))
            scores[likelihood > text, : self.first] = forbidden


@dataclass(frozen=True)
class SearchSettings:
    """How one text is written; lengths count the token that it starts with, as transformers counts them.

    `num_beams` 1 is greedy, `positions` bounds the tokens that the decoder reads, `begin` counts those that
    a text begins with, `timestamps` are Whisper's rules for tokens of time. The rest has transformers' names
    and meaning (`GenerationConfig`).
    """

    start: int
    ends: tuple[int, ...]
    pad: int
    max_length: int
    min_length: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    forced_bos: int | None = None
    forced_eos: tuple[int, ...] = ()
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    bad_words: tuple[tuple[int, ...], ...] = ()
    suppress: tuple[int, ...] = ()
    begin_suppress: tuple[int, ...] = ()
    renormalize: bool = False
    positions: int | None = None
    begin: int = 1
    timestamps: TimestampRules | None = None

    @classmethod
    def of(cls, generation: Mapping[str, Any], config: Mapping[str, Any]) -> SearchSettings:
        """From generation_config.json and config.json. Raises CheckpointError for what is not followed."""
        known = {name: value for name, value in generation.items() if value is not None}
        for name, value in known.items():
            _refuse(name, value)
        start = known.get("decoder_start_token_id", generation.get("bos_token_id"))
        ends = _tokens(known.get("eos_token_id"))
        pad = known.get("pad_token_id", ends[0] if ends else None)
        return cls(
            start=_token("decoder_start_token_id", start),
            ends=ends,
            pad=_token("pad_token_id or eos_token_id", pad),
            max_length=_max_length(known, config),
            min_length=known["min_new_tokens"] + 1
            if "min_new_tokens" in known
            else known.get("min_length", 0),
            num_beams=known.get("num_beams", 1),
            length_penalty=float(known.get("length_penalty", 1.0)),
            early_stopping=known.get("early_stopping", False),
            forced_bos=known.get("forced_bos_token_id"),
            forced_eos=_tokens(known.get("forced_eos_token_id")),
            no_repeat_ngram_size=known.get("no_repeat_ngram_size", 0),
            repetition_penalty=float(known.get("repetition_penalty", 1.0)),
            bad_words=tuple(map(tuple, known.get("bad_words_ids", ()))),
            suppress=tuple(known.get("suppress_tokens", ())),
            begin_suppress=tuple(known.get("begin_suppress_tokens", ())),
            renormalize=known.get("renormalize_logits", False),
            positions=token_limit(config),
        )

    def with_new_tokens(self, most: int) -> SearchSettings:
        """At most `most` tokens behind the first, or as many as there are positions. Raises RecipeError."""
        if not 1 <= most < _LONGEST:
            raise RecipeError(f"Expected 1 to {_LONGEST - 1} new tokens, received {most}.")
        return replace(self, max_length=min(most, self.positions or most) + 1)

    def exactly(self, tokens: int) -> SearchSettings:
        """A text of `tokens` tokens behind the first, neither more nor fewer: equal work, to time it."""
        return replace(self, max_length=tokens + 1, min_length=tokens + 1)


def _refuse(name: str, value: object) -> None:
    if name in _FOLLOWED or (name in _SILENT and not (name == "num_return_sequences" and value != 1)):
        return
    if name in _REFUSED and value in _REFUSED[name]:
        return
    if name == "early_exit" or value in (None, False, [], {}):
        return
    raise CheckpointError(
        f"optkit does not write texts with {name} = {str(value)[:60]} (generation_config.json).",
        hint="Take the setting out of generation_config.json, or serve this checkpoint with transformers.",
    )


def _token(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise CheckpointError(
            f"Expected one {name} in generation_config.json, received {value!r}.",
            hint="Save the model with this transformers: save_pretrained writes the file.",
        )
    return value


def _tokens(value: int | list[int] | tuple[int, ...] | None) -> tuple[int, ...]:
    return () if value is None else tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _max_length(known: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    if "max_new_tokens" in known:
        return int(known["max_new_tokens"]) + 1
    if "max_length" in known:
        return int(known["max_length"])
    positions = config.get("max_position_embeddings")
    return min(_NEW_TOKENS + 1, positions) if isinstance(positions, int) else _NEW_TOKENS + 1
