"""`Characters`: what a CTC model writes, a token for each frame, as text; what Wav2Vec2CTCTokenizer does.

Read from transformers 5.23, `tokenization_wav2vec2.py`; the method is greedy decoding, Graves et al. 2006.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from optkit.core.files import write_json
from optkit.core.reading import read_json
from optkit.errors import CheckpointError

VOCABULARY, SETTINGS = "vocab.json", "tokenizer_config.json"
#: The tokens that a new vocabulary begins with; the first stands for nothing at all (CTC's blank).
SPECIAL = ("<pad>", "<unk>", "|")
_CLASSES = (None, "Wav2Vec2CTCTokenizer", "Wav2Vec2Tokenizer")
#: As transformers' `clean_up_tokenization`.
_CLEAN = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
          (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """Characters with the frames that they were written in: from `start` to before `end`."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Characters:
    """`tokens` by id. `blank` is written for nothing, `delimiter` between words, and shown as `space`."""

    tokens: dict[int, str]
    blank: str = "<pad>"
    unknown: str = "<unk>"
    delimiter: str = "|"
    space: str = " "
    lower: bool = False
    cleans: bool = False
    settings: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, folder: Path) -> Characters:
        """Those of the tokenizer in `folder`. Raises CheckpointError where it is of another kind."""
        settings = read_json(folder / SETTINGS, CheckpointError) if (folder / SETTINGS).exists() else {}
        if settings.get("tokenizer_class") not in _CLASSES or not (folder / VOCABULARY).exists():
            raise CheckpointError(
                f"Expected {VOCABULARY} and a Wav2Vec2CTCTokenizer in {str(folder)!r}, received "
                f"{settings.get('tokenizer_class') or 'none'}.",
                hint="Save it beside the model: AutoTokenizer.from_pretrained(NAME).save_pretrained(FOLDER).",
            )
        by_token: Any = read_json(folder / VOCABULARY, CheckpointError)
        if (language := settings.get("target_lang")) is not None:
            by_token = by_token.get(language)
        if not isinstance(by_token, dict) or not all(type(i) is int and i >= 0 for i in by_token.values()):
            raise CheckpointError(
                f"Expected a number for each token in {VOCABULARY}"
                + (f" under {language!r}" if language is not None else "")
                + f" of {str(folder)!r}.",
                hint="A vocabulary of several languages needs target_lang in tokenizer_config.json.",
            )
        tokens = {number: token for token, number in by_token.items()}
        for number, added in (settings.get("added_tokens_decoder") or {}).items():
            tokens.setdefault(int(number), str(added["content"]))
        known = {name: _text(settings[name]) for name in _NAMES if settings.get(name) is not None}
        if known.get("word_delimiter_token", "|") != "|":
            raise CheckpointError(
                f"Expected the word_delimiter_token '|' in {str(folder / SETTINGS)!r}, received "
                f"{known['word_delimiter_token']!r}, which transformers 5.23 forgets as it opens it.",
                hint="Rename it to | in vocab.json and in tokenizer_config.json.",
            )
        return cls(
            tokens,
            blank=known.get("pad_token", "<pad>"),
            unknown=known.get("unk_token", "<unk>"),
            space=known.get("replace_word_delimiter_char", " "),
            lower=bool(settings.get("do_lower_case")),
            cleans=bool(settings.get("clean_up_tokenization_spaces")),
            settings=settings,
        )

    @classmethod
    def of(cls, texts: Iterable[str]) -> Characters:
        """A vocabulary of every character in `texts`, in order; spaces are the delimiter's."""
        letters = sorted({letter for text in texts for letter in text} - {" ", "|"})
        return cls(dict(enumerate([*SPECIAL, *letters])))

    def save(self, folder: Path) -> None:
        """Write both files, as transformers reads them."""
        write_json(folder / VOCABULARY, {token: number for number, token in self.tokens.items()})
        names = {"pad_token": self.blank, "unk_token": self.unknown, "word_delimiter_token": self.delimiter}
        sentence = {"bos_token": None, "eos_token": None}
        usual = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "do_lower_case": self.lower, **sentence, **names}
        write_json(folder / SETTINGS, {**usual, **self.settings})

    def pieces(self, ids: Sequence[int]) -> list[Piece]:
        """Each run of one token, where it is no blank."""
        runs, start = [], 0
        for token, run in groupby(self.tokens.get(int(i), self.unknown) for i in ids):
            end = start + sum(1 for _ in run)
            if token != self.blank:
                runs.append(Piece(self.space if token == self.delimiter else token, start, end))
            start = end
        return runs

    def text(self, pieces: Iterable[Piece]) -> str:
        whole = "".join(piece.text for piece in pieces).strip()
        whole = whole.lower() if self.lower else whole
        for before, after in _CLEAN if self.cleans else ():
            whole = whole.replace(before, after)
        return whole

    def words(self, pieces: Iterable[Piece]) -> list[Piece]:
        """The words between delimiters, as transformers' word timestamps have them."""
        groups = ([*run] for space, run in groupby(pieces, key=lambda p: p.text == self.space) if not space)
        return [Piece("".join(p.text for p in run), run[0].start, run[-1].end) for run in groups]

    def spelled(self, text: str) -> str:
        """`text` in the one case that the tokens have letters of; as it is, where they have both."""
        letters = "".join(t for t in self.tokens.values() if len(t) == 1)
        if self.lower:
            return text.lower()
        return (
            text.upper()
            if letters == letters.upper()
            else text.lower()
            if letters == letters.lower()
            else text
        )

    def ids(self, text: str) -> list[int]:
        """A token for each character of `text`, as a model is trained to write it."""
        by_token = {token: number for number, token in self.tokens.items()}
        text = self.spelled(text).upper() if self.lower else self.spelled(text)
        unknown = by_token.get(self.unknown, 0)
        return [by_token.get(letter, unknown) for letter in text.strip().replace(" ", self.delimiter)]

    @property
    def blank_id(self) -> int:
        return next((number for number, token in self.tokens.items() if token == self.blank), 0)


_NAMES = ("pad_token", "unk_token", "word_delimiter_token", "replace_word_delimiter_char")


def _text(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)
