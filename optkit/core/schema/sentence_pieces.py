"""sentencepiece.json, which optkit writes of a tokenizer that SentencePiece reads texts for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from optkit.core.schema.base import Checked

#: What an artifact holds in place of tokenizer.json.
FILE = "sentencepiece.json"
Id = Annotated[int, Field(ge=0, lt=2**31)]
Tokens = dict[str, Id]


class Pieces(Checked):
    """`encoder_model` and `decoder_model` are SentencePiece's own files in Base64; `encoder_ids` say which id
    a piece has in what is read, `decoder_ids` which token an id is in what is written.

    `added` tokens are found in a text before SentencePiece sees it; `special` ones do not show in a text.
    `before` and `behind` are put around every text. `unknown` is the token of all other pieces. `marian`: a
    MarianTokenizer's ways, ">>fr<<" at the beginning is a token, an id without one is a piece of the model.
    """

    encoder_model: str
    decoder_model: str
    encoder_ids: Tokens
    decoder_ids: Tokens
    added: Tokens
    special: list[str] = Field(max_length=100_000)
    before: list[Id] = Field(max_length=100)
    behind: list[Id] = Field(max_length=100)
    unknown: str
    unknown_id: Id
    marian: bool
