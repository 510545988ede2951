"""Writing a text behind a source: greedy and beam search, token for token as transformers' `generate`.

Source: transformers 5, `generation/utils.py` (`_sample` without drawing, `_beam_search`) and
`generation/logits_process.py`. All in float32, as there. Needs numpy only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from optkit.runtimes.search_settings import SearchSettings

#: What transformers adds to the score of a beam that may not be chosen.
_NEVER = np.float32(-1.0e9)


class Writer(ABC):
    """A decoder that has read a batch of sources; its cache holds what it has written behind each."""

    @abstractmethod
    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Write `tokens` (rows, new) behind the rest; the logits (rows, vocabulary) of what follows."""

    @abstractmethod
    def reorder(self, rows: np.ndarray) -> None:
        """From now on row i goes on where row `rows[i]` is."""


def greedy(
    writer: Writer, rows: int, settings: SearchSettings, prompts: np.ndarray | None = None, read: int = 0
) -> Iterator[np.ndarray]:
    """The next token of each of `rows` texts, step by step, (rows,); `settings.pad` behind a text's end.

    A text begins with its row of `prompts` (rows, settings.begin), of which `writer` has read the first
    `read`; None: with `settings.start`.
    """
    written = _begun(rows, settings) if prompts is None else prompts
    open_rows = np.ones(rows, dtype=bool)
    while written.shape[1] < settings.max_length and open_rows.any():
        scores = processed(written, writer.step(written[:, read:]).astype(np.float32), settings)
        read = written.shape[1]
        new = np.where(open_rows, scores.argmax(axis=1), settings.pad)
        written = np.concatenate([written, new[:, None]], axis=1)
        open_rows &= ~np.isin(new, settings.ends)
        yield new


def search(
    writer: Writer, rows: int, settings: SearchSettings, prompts: np.ndarray | None = None, read: int = 0
) -> np.ndarray:
    """The best text behind each of `rows` sources, (rows, tokens), without its beginning; pad behind its end.

    `prompts` and `read` as for `greedy`. For beams `writer` has `rows * settings.num_beams` rows, those of
    one source together.
    """
    if settings.num_beams == 1:
        steps = list(greedy(writer, rows, settings, prompts, read))
        return np.stack(steps, axis=1) if steps else np.zeros((rows, 0), dtype=np.int64)
    return _beams(writer, rows, settings, _begun(rows, settings) if prompts is None else prompts, read)


def _begun(rows: int, settings: SearchSettings) -> np.ndarray:
    return np.full((rows, 1), settings.start, dtype=np.int64)


def _beams(writer: Writer, rows: int, settings: SearchSettings, prompts: np.ndarray, read: int) -> np.ndarray:
    beams, longest, begin = settings.num_beams, settings.max_length, settings.begin
    keep = max(2, 1 + len(settings.ends)) * beams
    running = np.full((rows, beams, max(longest, begin)), settings.pad, dtype=np.int64)
    running[:, :, :begin] = prompts[:, None]
    finished = running.copy()
    running_scores = np.zeros((rows, beams), dtype=np.float32)
    running_scores[:, 1:] = _NEVER
    finished_scores = np.full((rows, beams), _NEVER)
    lengths = np.zeros((rows, beams), dtype=np.int64)  # of the finished texts, the beginning left out
    is_finished = np.zeros((rows, beams), dtype=bool)
    may_improve = np.ones((rows, 1), dtype=bool)
    length, among_best = begin, np.arange(keep) < beams
    if length >= longest:
        return np.zeros((rows, 0), dtype=np.int64)
    while True:
        flat = running[:, :, :length].reshape(rows * beams, length)
        scores = processed(flat, log_softmax(writer.step(flat[:, read:]).astype(np.float32)), settings)
        read = length
        vocabulary = scores.shape[1]
        scores = scores.reshape(rows, beams, -1) + running_scores[:, :, None]
        top_scores, top = _largest(scores.reshape(rows, -1), keep)
        beam, token = top // vocabulary, top % vocabulary
        candidates = np.take_along_axis(running, beam[:, :, None], axis=1)
        candidates[:, :, length] = token
        stops = np.isin(token, settings.ends) | (length + 1 >= longest)

        open_scores = top_scores + stops.astype(np.float32) * _NEVER
        running_scores, best = _largest(open_scores, beams)
        running = np.take_along_axis(candidates, best[:, :, None], axis=1)
        beam_of = np.take_along_axis(beam, best, axis=1)

        ended = stops & among_best
        full = is_finished.all(axis=1, keepdims=True) & (settings.early_stopping is True)
        new = length + 1 - begin
        ended_scores = top_scores / np.float32(new**settings.length_penalty)
        for never in (full, ~may_improve, ~ended):
            ended_scores = ended_scores + never.astype(np.float32) * _NEVER
        merged = np.concatenate([finished_scores, ended_scores], axis=1)
        finished_scores, best = _largest(merged, beams)
        finished = np.take_along_axis(np.concatenate([finished, candidates], 1), best[:, :, None], axis=1)
        lengths = np.take_along_axis(
            np.concatenate([lengths, np.full((rows, keep), new)], axis=1), best, axis=1
        )
        is_finished = np.take_along_axis(np.concatenate([is_finished, ended], axis=1), best, axis=1)

        length += 1
        may_improve &= _may_improve(running_scores, finished_scores, is_finished, length, settings)
        done = is_finished.all() and settings.early_stopping is True
        if not may_improve.any() or done or stops.all():
            break
        writer.reorder((beam_of + np.arange(rows)[:, None] * beams).reshape(-1))
    return finished[:, 0, begin : begin + lengths[:, 0].max()]


def _may_improve(
    running: np.ndarray, finished: np.ndarray, is_finished: np.ndarray, length: int, settings: SearchSettings
) -> np.ndarray:
    """Whether the best open text might still beat the worst finished one, as transformers guesses it."""
    never = settings.early_stopping == "never" and settings.length_penalty > 0
    final = (settings.max_length if never else length) - settings.begin
    possible = running[:, :1] / np.float32(final**settings.length_penalty)
    worst = np.where(is_finished, finished.min(axis=1, keepdims=True), _NEVER)
    return np.asarray(np.greater(possible, worst).any(axis=1, keepdims=True))


def _largest(scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` largest of each row and their places, largest first, the earlier of equals first."""
    if scores.shape[1] > 8 * count:
        part = np.argpartition(-scores, count, axis=1)[:, :count]
        part.sort(axis=1)
        order = np.argsort(-np.take_along_axis(scores, part, axis=1), axis=1, kind="stable")
        places = np.take_along_axis(part, order, axis=1)
    else:
        places = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(scores, places, axis=1), places


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(rows, vocabulary) float32 → log-probabilities."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def processed(written: np.ndarray, scores: np.ndarray, settings: SearchSettings) -> np.ndarray:
    """`scores` (rows, vocabulary) of what follows `written` (rows, length), with what is forbidden at -inf.

    In transformers' order: each rule sees what those before it left.
    """
    length, forbidden = written.shape[1], np.float32(-np.inf)
    if settings.repetition_penalty != 1.0:
        seen = np.take_along_axis(scores, written, axis=1)
        penalty = np.float32(settings.repetition_penalty)
        np.put_along_axis(scores, written, np.where(seen < 0, seen * penalty, seen / penalty), axis=1)
    if settings.no_repeat_ngram_size:
        for row, tokens in zip(scores, written):
            row[_repeating(tokens.tolist(), settings.no_repeat_ngram_size)] = forbidden
    for word in settings.bad_words:
        if (len(word) == 1 and word[0] in settings.ends) or len(word) > length + 1:
            continue
        before = list(word[:-1])
        matching = (written[:, length - len(before) :] == before).all(axis=1)
        scores[matching, word[-1]] = forbidden
    if length < settings.min_length:
        scores[:, list(settings.ends)] = forbidden
    if settings.forced_bos is not None and length == 1:
        scores = _only(scores, (settings.forced_bos,))
    if settings.forced_eos and length == settings.max_length - 1:
        scores = _only(scores, settings.forced_eos)
    scores[:, list(settings.suppress)] = forbidden
    if length == settings.begin + (settings.forced_bos is not None and settings.begin == 1):
        scores[:, list(settings.begin_suppress)] = forbidden
    if settings.timestamps is not None:
        settings.timestamps.apply(written, scores, settings)
    return log_softmax(scores) if settings.renormalize else scores


def _only(scores: np.ndarray, tokens: tuple[int, ...]) -> np.ndarray:
    only = np.full_like(scores, -np.inf)
    only[:, list(tokens)] = 0
    return only


def _repeating(tokens: list[int], size: int) -> list[int]:
    """Tokens that would make the last `size` of a text ones that it has already.

    >>> _repeating([5, 6, 7, 5, 6], 3)
    [7]
    """
    last = tokens[len(tokens) - size + 1 :]
    return [tokens[i + size - 1] for i in range(len(tokens) - size + 1) if tokens[i : i + size - 1] == last]
