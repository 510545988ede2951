"""Texts to ids where transformers itself has SentencePiece read them: the tokenizers of Marian and M2M100.

They are no tokenizers of the tokenizers library and cannot become ones: a piece is looked up in a vocabulary
beside SentencePiece's own, and so is a run of characters that it does not know. Here the `sentencepiece`
package does what it does in transformers, and the rest is written out; `tokenization_worker` compares both.
Source: transformers 5, tokenization_python.py, tokenization_marian.py and tokenization_m2m_100.py.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optkit.core.reading import parse_json
from optkit.core.schema.base import check
from optkit.core.schema.sentence_pieces import Pieces
from optkit.errors import CheckpointError, MissingDependency

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from transformers import PreTrainedTokenizerBase

#: Classes of transformers that are followed.
KINDS = ("MarianTokenizer", "M2M100Tokenizer")


@dataclass(frozen=True)
class Read:
    """What became of a text, with the names of the tokenizers library; `overflowing`: what was cut off."""

    ids: list[int]
    overflowing: list[list[int]]

    @property
    def attention_mask(self) -> list[int]:
        return [1] * len(self.ids)

    @property
    def type_ids(self) -> list[int]:
        return [0] * len(self.ids)


class PieceTokenizer:
    """Has the methods of `tokenizers.Tokenizer` by which `TextEncoder` reads and writes single texts."""

    #: None: nothing is merged, and no text is cleaned differently for it.
    model: None = None
    encode_special_tokens = False

    def __init__(self, file: Path, content: bytes) -> None:
        """Raises CheckpointError where `content`, of `file`, is no description of such a tokenizer;
        MissingDependency."""
        value = parse_json(content.decode(), str(file), CheckpointError)
        stated = check(Pieces, value, file, CheckpointError)
        self._reader, self._writer = (
            _opened(packed, file) for packed in (stated.encoder_model, stated.decoder_model)
        )
        self._stated = stated
        self._tokens = {index: token for token, index in stated.decoder_ids.items()}
        self._special = set(stated.special)
        longest = sorted(stated.added, key=len, reverse=True)
        self._added = re.compile("(" + "|".join(map(re.escape, longest)) + ")") if longest else None
        self._limit: tuple[int, str] | None = None

    def __deepcopy__(self, memo: object) -> PieceTokenizer:
        """One with a limit of its own; the models in it do not change and are shared."""
        copy = object.__new__(PieceTokenizer)
        copy.__dict__.update(self.__dict__)
        return copy

    def no_padding(self) -> None:
        """It pads nothing anyway."""

    def enable_truncation(
        self, max_length: int, stride: int = 0, strategy: str = "longest_first", direction: str = "right"
    ) -> None:
        self._limit = max_length, direction

    def encode_batch_fast(self, texts: Sequence[str]) -> list[Read]:
        """Raises CheckpointError for pairs of texts and lists of words, which these models do not read;
        TypeError for half of a surrogate pair."""
        if not all(isinstance(text, str) for text in texts):
            raise CheckpointError(
                "A tokenizer of Marian or M2M100 reads single texts, no pairs and no words."
            )
        try:
            "".join(texts).encode()
        except UnicodeEncodeError as reason:
            raise TypeError(str(reason)) from reason
        return [self._read(text) for text in texts]

    def encode_batch(self, texts: Sequence[str], is_pretokenized: bool = False) -> list[Read]:
        return self.encode_batch_fast(texts)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        stated, text, run = self._stated, "", list[str]()
        for index in ids:
            token = self._tokens.get(index)
            if skip_special_tokens and token in self._special:
                continue
            if token is None:  # a row of the model that is no token
                token = self._writer.IdToPiece(index) if stated.marian else stated.unknown
            if token in self._special:
                text += str(self._writer.decode(run)) + token + (" " if stated.marian else "")
                run = []
            else:
                run.append(token)
        text += str(self._writer.decode(run))
        return (text.replace("\u2581", " ") if stated.marian else text).strip()

    def token_to_id(self, token: str) -> int | None:
        return self._stated.encoder_ids.get(token)

    def get_vocab_size(self) -> int:
        return len(self._stated.encoder_ids)

    def num_special_tokens_to_add(self, is_pair: bool = False) -> int:
        return len(self._stated.before) + len(self._stated.behind)

    def _read(self, text: str) -> Read:
        stated, ids = self._stated, list[int]()
        split = self._added is not None and not self.encode_special_tokens
        for place, part in enumerate(self._added.split(text) if split and self._added else [text]):
            if place % 2:
                ids.append(stated.added[part])
            elif part:
                ids += [stated.encoder_ids.get(piece, stated.unknown_id) for piece in self._pieces(part)]
        cut = list[list[int]]()
        if self._limit is not None:
            room = self._limit[0] - self.num_special_tokens_to_add()
            if len(ids) > room:
                left = self._limit[1] == "left"
                cut = [ids[: len(ids) - room] if left else ids[room:]]
                ids = ids[len(ids) - room :] if left else ids[:room]
        return Read([*stated.before, *ids, *stated.behind], cut)

    def _pieces(self, text: str) -> list[str]:
        pieces: list[str] = []
        if self._stated.marian and text.startswith(">>") and (end := text.find("<<")) != -1:
            pieces, text = [text[: end + 2]], text[end + 2 :]
        return [*pieces, *self._reader.encode(text, out_type=str)]


def described(theirs: PreTrainedTokenizerBase) -> str:
    """`theirs`, a tokenizer of transformers of one of `KINDS`, as the text of `FILE`.

    Raises CheckpointError for one that does more than is followed.
    """
    marian, added = type(theirs).__name__ == "MarianTokenizer", theirs.added_tokens_decoder
    for token in added.values():
        if token.lstrip or token.rstrip or token.single_word:
            raise CheckpointError(
                f"The tokenizer has an added token with lstrip, rstrip or single_word ({token.content!r}), "
                "which optkit does not follow where SentencePiece reads texts.",
                hint="Take them out of tokenizer_config.json.",
            )
    if theirs.sp_model_kwargs:
        raise CheckpointError(
            f"Expected no sp_model_kwargs in tokenizer_config.json, received {theirs.sp_model_kwargs}.",
            hint="With them a text may be read otherwise each time; take them out.",
        )
    ids, tokens = dict(theirs.encoder), dict(theirs.decoder)
    if not marian:
        ids |= theirs.lang_token_to_id
        tokens |= theirs.id_to_lang_token
    ids |= {token.content: index for index, token in added.items()}
    tokens |= {index: token.content for index, token in added.items()}
    alone = theirs.build_inputs_with_special_tokens([-1])
    own = marian and theirs.separate_vocabs
    value = {
        "encoder_model": _packed(theirs.spm_source if marian else theirs.sp_model),
        "decoder_model": _packed(
            theirs.spm_target if own else theirs.spm_source if marian else theirs.sp_model
        ),
        "encoder_ids": ids,
        "decoder_ids": {token: index for index, token in tokens.items()},
        "added": {token.content: index for index, token in added.items()},
        "special": list(theirs.all_special_tokens),
        "before": alone[: alone.index(-1)],
        "behind": alone[alone.index(-1) + 1 :],
        "unknown": str(theirs.unk_token),
        "unknown_id": theirs.encoder[str(theirs.unk_token)],
        "marian": marian,
    }
    if len(value["decoder_ids"]) < len(tokens):
        raise CheckpointError(
            "Expected a token for each id, received two ids with one token.",
            hint="Save its vocabulary again.",
        )
    return json.dumps(value, ensure_ascii=False)


def _packed(model: SentencePieceProcessor) -> str:
    return b64encode(model.serialized_model_proto()).decode()


def _opened(packed: str, file: Path) -> SentencePieceProcessor:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as reason:
        raise MissingDependency.of("sentencepiece", "sentencepiece") from reason
    model = SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(b64decode(packed, validate=True))
    except (RuntimeError, ValueError) as reason:
        raise CheckpointError(
            f"{str(file)!r} holds no model of SentencePiece: {' '.join(str(reason).split())[:200]}.",
            hint="Run optkit compress again, or copy the folder again.",
        ) from reason
    return model
