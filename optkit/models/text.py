"""`TextEncoder`: text to token ids with the `tokenizers` library alone, as transformers gives them.

The same ids go to every runtime and to the served model, and no process needs transformers for it:
`optkit.models.tokenization` says what transformers does with the folder's files.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core.files import read_json
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, DataError
from optkit.models.limits import token_limit
from optkit.models.tokenization import Tokenization, opened, read

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

#: A limit in tokens that no text reaches.
_NO_LIMIT = 1_000_000


class NoToken(DataError):
    """A tokenizer makes nothing of a text."""


class TextEncoder:
    """Encodes texts, or pairs of texts, as `input_ids`, `attention_mask`, `token_type_ids`.

    `max_length` is the model's limit in tokens, special tokens included; longer texts are
    truncated and counted. `truncation_side` (right or left) is where they lose tokens.
    """

    def __init__(
        self, folder: Path, stated_length: int | None = None, tokenization: Tokenization | None = None
    ) -> None:
        """`stated_length`: what stands in for the limit in tokenizer_config.json; `tokenization`: how texts
        are read where that is not as the folder says."""
        from optkit.core.schema.tokenizer import while_encoding

        self._failing = partial(while_encoding, folder)
        tokenization = tokenization or read(folder)
        self._tokenizer = opened(tokenization, folder)
        config = read_json(folder / "config.json", CheckpointError)
        self.tokenization = tokenization
        self.max_length = _max_length(stated_length or tokenization.max_length, config)
        self.truncation_side = tokenization.truncation_side
        #: Whether a model is told which text of a pair a token is of; else it sees zeros.
        self.gives_types = "token_type_ids" in tokenization.inputs
        self._cutters: dict[tuple[int, int, str], Tokenizer] = {}
        self._making = threading.Lock()
        self.pad_id = pad_token(config)
        self.mask_id = (
            None if tokenization.mask_token is None else self._tokenizer.token_to_id(tokenization.mask_token)
        )
        self._tokenizer.encode_special_tokens = tokenization.split_special_tokens
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_length, direction=self.truncation_side)

    def truncate(self, max_length: int | None) -> None:
        """Bound texts to `max_length` tokens, where that is below the model's own limit."""
        if max_length is not None and max_length < self.max_length:
            self.max_length = max_length
            self._tokenizer.enable_truncation(max_length, direction=self.truncation_side)

    def lower_case(self) -> None:
        """Lower the case of texts before all else, unless the tokenizer does so anyway.

        As sentence-transformers' do_lower_case: tokens such as [MASK] are found in the text before it.
        """
        from tokenizers.normalizers import Lowercase
        from tokenizers.normalizers import Sequence as Normalizers

        first = self._tokenizer.normalizer
        several = type(first) is Normalizers
        steps = list(first) if several else [first] if first is not None else []
        if not any(isinstance(step, Lowercase) for step in steps):
            self._tokenizer.normalizer = Normalizers([Lowercase(), *steps])

    def save(self, file: Path) -> None:
        """Write the tokenizer as it is used here, as tokenizer.json."""
        self._tokenizer.save(str(file))

    def encode(self, texts: Sequence[str | tuple[str, str]], length: int | None = None) -> EncodedSet:
        """The tensors of `texts`, cut at `length` tokens in place of `max_length` where it is given.

        Raises NoToken for a text of no tokens, such as "" where nothing ends a text: a model answers it by
        what it is padded with, and alone not at all.
        """
        with self._failing(), _halves_named(texts):
            tokenizer = self._tokenizer if length is None else self._cutter(length, 0, "longest_first")
            encodings = tokenizer.encode_batch_fast(list(texts)) if texts else []
        if (bare := next((i for i, e in enumerate(encodings) if not e.ids), None)) is not None:
            raise NoToken(
                f"Expected a text with at least one token at position {bare}, received {texts[bare]!r}, of "
                "which this model's tokenizer makes none.",
                hint="Leave it out: this tokenizer puts no token before or behind a text.",
            )
        arrays = self._arrays(encodings)
        truncated = sum(bool(e.overflowing) for e in encodings)
        return EncodedSet(arrays, {"input_ids": self.pad_id}, truncated)

    def cut_first(self, pairs: Sequence[tuple[str, str]]) -> EncodedSet:
        """The tensors of pairs of which the first text alone is cut, as transformers' only_first does it.

        Raises DataError where the second text leaves the first no token of the limit.
        """

        def encodings(part: Sequence[tuple[str, str]]) -> list[list[Encoding]] | None:
            try:
                return self.cut(part, 0, "only_first")
            except CheckpointError as reason:
                if "too short" in str(reason):  # the library's word for a text that would be cut to nothing
                    return None
                raise

        if (each := encodings(pairs)) is None:
            second = next(second for first, second in pairs if encodings([(first, second)]) is None)
            raise DataError(
                f"Expected a second text that leaves the first some of {self.max_length} tokens, received "
                f"one of {len(second):,} characters.",
                hint="Shorten it: it is read whole, and the first alone is cut.",
            )
        encoded = self.joined([windows[:1] for windows in each])
        return replace(encoded, truncated=sum(len(windows) > 1 for windows in each))

    @property
    def is_bpe(self) -> bool:
        """Whether its tokens are merged from pairs (BPE)."""
        return type(self._tokenizer.model).__name__ == "BPE"

    @property
    def reads_words_as_text(self) -> bool:
        """Whether words that are given one by one become the tokens that they are in a text."""
        words = ["film", "film"]
        [given], [text] = self.cut([words], 0, words=True)[0], self.cut([" ".join(words)], 0)[0]
        return bool(given.ids == text.ids)

    def whole(self, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        """The token ids of each text, however long, with the `special` tokens that the tokenizer adds."""
        uncut = self._cutter(_NO_LIMIT**2, 0, "longest_first")
        options = {} if special else {"add_special_tokens": False}
        with self._failing(), _halves_named(texts):
            encodings = uncut.encode_batch_fast(list(texts), **options) if texts else []
        return [e.ids for e in encodings]

    def text(self, ids: Sequence[int]) -> str:
        """Token ids as text, without special tokens."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def token(self, index: int) -> str:
        """One token as text, a special one too."""
        return self._tokenizer.decode([index], skip_special_tokens=False).strip()

    def id_of(self, token: str) -> int | None:
        """The id of `token`; None where it is none."""
        return self._tokenizer.token_to_id(token)

    @property
    def vocabulary_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def stream(self, before: Sequence[int]) -> Callable[[int], str]:
        """A function that takes the tokens behind `before` one by one, and gives the text of each.

        A token that ends inside a character gives "", and the next one the whole character.
        """
        from tokenizers.decoders import DecodeStream

        decoding = DecodeStream(ids=list(before), skip_special_tokens=True)
        return lambda token: decoding.step(self._tokenizer, token) or ""

    def windows(
        self, texts: Sequence[str | tuple[str, str]], stride: int
    ) -> tuple[EncodedSet, list[list[Encoding]]]:
        """Long texts as several windows that share `stride` tokens, and each text's windows.

        Of a pair only the second text is cut, and the first is repeated. A window is an `Encoding`
        of the tokenizers library, with character offsets and sequence ids. `truncated` is 0: no token
        is lost. Raises DataError where the first text of a pair leaves the second less than `2 * stride`
        tokens: windows that advance by less than they share would grow in number without bound.
        """
        pairs = bool(texts) and not isinstance(texts[0], str)
        if pairs:
            self._refuse_no_room([text[0] for text in texts], stride)
        each = self.cut(texts, stride, "only_second" if pairs else "longest_first")
        return self.joined(each), each

    def cut(
        self,
        texts: Sequence[Any],
        stride: int,
        strategy: str = "longest_first",
        words: bool = False,
        places: Sequence[int] | None = None,
    ) -> list[list[Encoding]]:
        """The windows of each text; with `words` a text is a list of words, and a window has `word_ids`.

        `places` are those of the texts in what was given, for messages.
        """
        if not texts:
            return []
        cutter = self._cutter(self.max_length, stride, strategy)
        with self._failing(), _halves_named(texts, places):
            return [[e, *e.overflowing] for e in cutter.encode_batch(list(texts), is_pretokenized=words)]

    def joined(self, each: Sequence[Sequence[Encoding]]) -> EncodedSet:
        """The windows of all texts as examples."""
        flat = [window for windows in each for window in windows]
        return EncodedSet(self._arrays(flat), {"input_ids": self.pad_id})

    def _arrays(self, encodings: Sequence[Encoding]) -> dict[str, list[np.ndarray]]:
        """What a model takes of each encoding, (tokens,) each, int64."""
        types = [e.type_ids if self.gives_types else [0] * len(e.ids) for e in encodings]
        return {
            "input_ids": [np.array(e.ids, dtype=np.int64) for e in encodings],
            "attention_mask": [np.array(e.attention_mask, dtype=np.int64) for e in encodings],
            "token_type_ids": [np.array(row, dtype=np.int64) for row in types],
        }

    def _cutter(self, length: int, stride: int, strategy: str) -> Tokenizer:
        """A tokenizer that cuts into windows; one of its own, since another thread may be encoding."""
        key = (length, stride, strategy)
        with self._making:
            if key not in self._cutters:
                cutter = copy.deepcopy(self._tokenizer)
                cutter.encode_special_tokens = self._tokenizer.encode_special_tokens  # no copy has it
                cutter.enable_truncation(
                    length, stride=stride, strategy=strategy, direction=self.truncation_side
                )
                self._cutters[key] = cutter
            return self._cutters[key]

    def _refuse_no_room(self, firsts: list[str], stride: int) -> None:
        special = self._tokenizer.num_special_tokens_to_add(is_pair=True)
        with self._failing(), _halves_named(firsts):
            encodings = self._tokenizer.encode_batch(firsts, add_special_tokens=False)
        for i, encoding in enumerate(encodings):
            room = self.max_length - special - len(encoding.ids)
            if room < 2 * stride or encoding.overflowing:
                raise DataError(
                    f"Expected a first text that leaves {2 * stride} of {self.max_length} tokens for "
                    f"the second, received one of {len(encoding.ids)} tokens or more at position {i}.",
                    hint="Shorten it, or allow longer inputs (max_length).",
                )


@contextmanager
def _halves_named(texts: Sequence[Any], places: Sequence[int] | None = None) -> Iterator[None]:
    """DataError for half of a surrogate pair, which the tokenizers library takes for no text at all."""
    try:
        yield
    except TypeError:
        for i, item in enumerate(texts):
            for part in (item,) if isinstance(item, str) else item:
                try:
                    part.encode()
                except UnicodeEncodeError as reason:
                    raise DataError(
                        f"Expected text at position {places[i] if places else i}, received half of a "
                        f"surrogate pair: {part[:60]!r}.",
                        hint="Read or decode it as UTF-8, or replace it: text.encode('utf-8', 'replace').",
                    ) from reason
        raise


def pad_token(config: dict[str, Any]) -> int:
    """The id that fills a shorter text: the model's own, or the end token of a decoder that has none.

    An id that is none of the vocabulary, such as one that transformers' default states, is passed over.
    """
    most = config.get("vocab_size") or 2**31
    for name in ("pad_token_id", "eos_token_id"):
        value = config.get(name)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, int) and 0 <= value < most:
            return value
    return 0


def _max_length(stated: int | None, config: dict[str, Any]) -> int:
    """The smallest stated limit: the tokenizer's, and the positions the model has."""
    limits = [] if stated is None else [stated]
    limits += [limit] if (limit := token_limit(config)) is not None else []
    return min(limits, default=512)
