"""How Whisper writes what it hears: a prompt, windows that begin where the last one was understood, times.

Token for token as transformers' `generate`. Source: transformers 5.23, models/whisper/generation_whisper.py.
Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from optkit.errors import CheckpointError, RecipeError, did_you_mean
from optkit.models.languages import token_of
from optkit.runtimes.search import Writer, search
from optkit.runtimes.search_settings import SearchSettings, TimestampRules

#: A feed beside the sound, (rows, 3): the token of a language, that of a task, 1 with times and 0 without; -1
#: where generation_config.json says it.
ASKED = "asked"
AS_STATED = -1
#: The outputs for each row: token ids (tokens,); (segments, 3), of each its start and end in frames, and how
#: many of the tokens are its own. Rows have as many as they need: both are arrays of arrays.
SEQUENCES, SEGMENTS = "sequences", "segments"
#: Frames of features for a second, for one place of the encoder, and so for a token of time.
FRAMES, STRIDE = 100, 2
#: New tokens where nothing says how many.
_NEW_TOKENS = 20
#: What generation_config.json says of speech and is followed here.
_KEYS = {
    *("alignment_heads", "forced_decoder_ids", "is_multilingual", "lang_to_id", "language"),
    *("max_initial_timestamp_index", "no_timestamps_token_id", "prev_sot_token_id", "return_timestamps"),
    *("task", "task_to_id", "_detect_timestamp_from_logprob", "median_filter_width"),
}

#: Windows (rows, bands, frames) → a decoder that has read them, each in so many rows as there are beams.
Open = Callable[[np.ndarray], Writer]


@dataclass(frozen=True)
class SpeechSettings:
    """What generation_config.json says of speech; `search` says how the text of one window is written.

    A window has `window` frames. `length` bounds a text without its prompt, `new` and `least_new` what is
    written behind it.
    """

    search: SearchSettings
    window: int
    positions: int
    length: int
    new: int | None = None
    least_new: int | None = None
    languages: Mapping[str, int] = field(default_factory=dict)
    tasks: Mapping[str, int] = field(default_factory=dict)
    multilingual: bool = True
    language: str | None = None
    task: str | None = None
    forced: tuple[int | None, ...] = ()
    no_timestamps: int | None = None
    latest: int | None = None
    by_likelihood: bool = True
    timestamps: bool = False

    @classmethod
    def of(cls, generation: Mapping[str, Any], config: Mapping[str, Any]) -> SpeechSettings:
        """From generation_config.json and config.json. Raises CheckpointError for what is not followed."""
        known = {name: value for name, value in generation.items() if value is not None}
        search = SearchSettings.of({n: v for n, v in known.items() if n not in _KEYS}, config)
        if len(search.ends) != 1:
            raise CheckpointError(f"Expected one eos_token_id, received {search.ends}.")
        languages, tasks = known.get("lang_to_id", {}), known.get("task_to_id", {})
        settings = cls(
            search=search,
            window=STRIDE * int(config["max_source_positions"]),
            positions=int(config["max_target_positions"]),
            length=known.get("max_length", _NEW_TOKENS),
            new=known.get("max_new_tokens"),
            least_new=known.get("min_new_tokens"),
            languages=languages,
            tasks=tasks,
            multilingual=known.get("is_multilingual", True),
            language=known.get("language"),
            task=known.get("task"),
            forced=_forced(known.get("forced_decoder_ids") or config.get("forced_decoder_ids") or ()),
            no_timestamps=known.get("no_timestamps_token_id"),
            latest=known.get("max_initial_timestamp_index"),
            by_likelihood=known.get("_detect_timestamp_from_logprob", True),
            timestamps=bool(known.get("return_timestamps", False)),
        )
        try:
            settings.asked(settings.language, settings.task)
        except RecipeError as error:
            raise CheckpointError(f"generation_config.json: {error}") from error
        return settings

    @property
    def first_time(self) -> int:
        """The first token of time; beyond the vocabulary where there is none."""
        return 2**62 if self.no_timestamps is None else self.no_timestamps + 1

    def asked(
        self, language: str | None = None, task: str | None = None, timestamps: bool | None = None
    ) -> np.ndarray:
        """What a caller asks for as a row of the feed `ASKED`, (3,). Raises RecipeError for what the model
        does not know."""
        stated = (language, task) == (self.language, self.task)
        if (language is not None or task is not None) and not self.multilingual and not stated:
            raise RecipeError(
                "This model writes one language down as it is: it takes no language and no task.",
                hint="Leave both out.",
            )
        token = None if language is None else token_of(language)
        for name, given, all_known in (("language", token, self.languages), ("task", task, self.tasks)):
            if given is not None and given not in all_known:
                names = [key.strip("<|>") for key in all_known]
                lacks = f"generation_config.json of this model names no {name}: leave it out."
                raise RecipeError(
                    f"Expected a {name} that the model knows, received {given.strip('<|>')!r}.",
                    hint=did_you_mean(given.strip("<|>"), names) if names else lacks,
                )
        if timestamps and self.no_timestamps is None:
            raise RecipeError(
                "This model writes no times: generation_config.json has no no_timestamps_token_id.",
                hint="Leave timestamps out, or take that file of the model it was made from.",
            )
        ids = (self.languages[token] if token else AS_STATED, self.tasks[task] if task else AS_STATED)
        return np.array([*ids, AS_STATED if timestamps is None else int(timestamps)], dtype=np.int64)

    def prompt(self, asked: np.ndarray, timestamps: bool) -> list[int | None]:
        """The tokens that a text begins with, for a row of `ASKED`; None stands for a language that has to be
        heard first."""
        language, task, _ = asked.tolist()
        if language < 0 and self.language is not None:
            language = self.languages[token_of(self.language)]
        if task < 0 and self.task is not None:
            task = self.tasks[self.task]
        tokens: list[int | None] = [self.search.start]
        if language < 0 and task < 0:
            tokens += self.forced
        unknown = len(tokens) < 2 or tokens[1] is None
        if language >= 0 or (self.languages and unknown):
            tokens[1:2] = [language if language >= 0 else None]
        elif unknown:
            tokens = tokens[:1] + tokens[2:]
        if task >= 0:
            tokens.append(task)
        elif language >= 0 and self.tasks and not set(tokens) & set(self.tasks.values()):
            tokens.append(self.tasks["transcribe"])
        if timestamps and tokens[-1] == self.no_timestamps:
            tokens.pop()
        elif not timestamps and self.no_timestamps is not None and tokens[-1] != self.no_timestamps:
            tokens.append(self.no_timestamps)
        return tokens

    def searched(self, begin: int, windows: int, timestamps: bool) -> SearchSettings:
        """How the text of a window is written behind a prompt of `begin` tokens; `windows` were before it.

        With every window the length grows by that of the prompt, as it does in transformers.
        """
        most = self.length
        for _ in range(windows + 1):
            most = min(most + min(self.positions // 2 - 1, begin), self.positions)
        rules = TimestampRules(self.first_time, self.latest, self.by_likelihood) if timestamps else None
        return replace(
            self.search,
            max_length=most if self.new is None else min(self.new + begin, self.positions),
            min_length=self.search.min_length if self.least_new is None else self.least_new + begin,
            begin=begin,
            timestamps=rules,
        )


def transcribe(
    features: np.ndarray,
    asked: np.ndarray,
    settings: SpeechSettings,
    open_writer: Open,
    exactly: int | None = None,
) -> dict[str, np.ndarray]:
    """What is said in `features` (rows, bands, frames), all asked for alike: `SEQUENCES` and `SEGMENTS`.

    What is longer than a window is written with times: the next window begins where the last pair of them
    ends. `exactly`: one window, and so many tokens for each row.
    """
    rows, _, frames = features.shape
    timestamps = bool(asked[2]) if asked[2] != AS_STATED else settings.timestamps
    timestamps = (timestamps or frames > settings.window) and exactly is None
    if timestamps:
        settings.asked(timestamps=True)  # or an error
    prompt = settings.prompt(asked, timestamps)
    prompts = np.array([[-1 if token is None else token for token in prompt]] * rows, dtype=np.int64)
    seek, windows = np.zeros(rows, dtype=np.int64), 0
    written: list[list[np.ndarray]] = [[np.empty(0, dtype=np.int64)] for _ in range(rows)]
    segments: list[list[tuple[int, int, int]]] = [[] for _ in range(rows)]
    while (going := np.flatnonzero(seek < frames)).size:
        counts = np.minimum(frames - seek[going], settings.window)
        parts = [_window(features[row], seek[row], n, settings.window) for row, n in zip(going, counts)]
        writer, read = open_writer(np.stack(parts)), 0
        if not windows and None in prompt:
            prompts[:, 1], read = _heard(writer, rows, settings), 1
        how = settings.searched(prompts.shape[1], windows, timestamps)
        if exactly is not None:
            how = replace(how, max_length=how.begin + exactly, min_length=how.begin + exactly)
        texts = search(writer, len(going), how, prompts[going], read)
        for row, count, text in zip(going.tolist(), counts.tolist(), texts):
            tokens = text[: next(iter(np.flatnonzero(text == how.ends[0])), len(text))]
            cut, offset = divided(tokens.tolist(), count, settings.first_time)
            segments[row] += [(seek[row] + a, seek[row] + b, n) for a, b, n in cut]
            written[row].append(tokens[: sum(n for _, _, n in cut)])
            seek[row] += offset if offset > 0 else count  # generate would hear the same window for ever
        windows += 1
        if exactly is not None:
            break
    cuts = [np.array(found, dtype=np.int64).reshape(-1, 3) for found in segments]
    return {SEQUENCES: _ragged([np.concatenate(parts) for parts in written]), SEGMENTS: _ragged(cuts)}


def divided(tokens: list[int], frames: int, first: int) -> tuple[list[tuple[int, int, int]], int]:
    """(start, end, tokens) of each segment of the text of a window of so many frames, and where the next
    window begins, both in frames; `first` is the first token of time.

    >>> divided([90, 5, 6, 92, 92, 7], 3000, 90)
    ([(0, 4, 5)], 4)
    """
    times = [token >= first for token in tokens]
    alone = times[-2:] == [False, True]
    cuts = [i + 1 for i in range(len(times) - 1) if times[i] and times[i + 1]]
    if not cuts:
        last = int(frames * 0.01 / 0.02)
        if (heard := [token for token in tokens if token >= first]) and heard[-1] != first:
            last = heard[-1] - first
        return [(0, last * STRIDE, len(tokens))], frames
    if alone:
        cuts.append(len(tokens))
    else:
        cuts[-1] += 1
    segments, begin = [], 0
    for end in cuts:
        until = tokens[end - 1 if alone or end != cuts[-1] else end - 2]
        segments.append(((tokens[begin] - first) * STRIDE, (until - first) * STRIDE, end - begin))
        begin = end
    return segments, frames if alone else (tokens[begin - 2] - first) * STRIDE


def _heard(writer: Writer, rows: int, settings: SpeechSettings) -> np.ndarray:
    """The likeliest language of each row, behind the token that every text begins with."""
    copies = settings.search.num_beams
    logits = writer.step(np.full((rows * copies, 1), settings.search.start, dtype=np.int64))[::copies]
    languages = np.array(sorted(settings.languages.values()))
    return languages[logits[:, languages].argmax(axis=1)]


def _window(features: np.ndarray, begin: int, count: int, size: int) -> np.ndarray:
    return np.pad(features[:, begin : begin + count], ((0, 0), (0, size - count)))


def _ragged(rows: Sequence[np.ndarray]) -> np.ndarray:
    """An array whose elements are `rows`, of whatever lengths."""
    out = np.empty(len(rows), dtype=object)
    for i, row in enumerate(rows):
        out[i] = row
    return out


def _forced(pairs: Sequence[Sequence[Any]]) -> tuple[int | None, ...]:
    """Tokens by place, which older checkpoints state. Raises CheckpointError where a place lacks."""
    if not pairs or pairs[0][0] != 1:
        return ()
    if [place for place, _ in pairs] != list(range(1, len(pairs) + 1)):
        raise CheckpointError(f"Expected forced_decoder_ids for each place from 1 on, received {pairs}.")
    return tuple(None if t is None else int(t) for place, t in pairs if place == 1 or t is not None)
