"""Which tokens of a query and of a document a multi-vector model compares, as its folder says; without torch.

Both are cut at a length of their own. A short query may be filled up with a token such as [MASK], whose
vectors count though the others may not see it; a document leaves out the tokens of a list, such as
punctuation. Source: sentence-transformers 6.2, `Transformer.preprocess` and `MultiVectorMask`; O. Khattab and
M. Zaharia, "ColBERT" (SIGIR 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optkit.core.sentence_modules import SIDES, TOKEN_MASK, Module, optional, transformer_settings
from optkit.errors import CheckpointError

#: The two sides of a search; a text of neither is read as a document without its prompt and its length.
QUERY, DOCUMENT = "query", "document"


@dataclass(frozen=True)
class Expansion:
    """Queries of fewer than `length` tokens are filled up with `token` (None: the mask token), which the
    others see where `attend`; with `fixed`, longer ones are cut there."""

    length: int
    fixed: bool
    attend: bool = False
    token: str | None = None


@dataclass(frozen=True)
class TokenVectors:
    """`lengths` by side in tokens, where one is stated. The tokens `skipped` have no vector on the sides
    `skipping`; of all but queries those of `only` alone have one, where it is given. `counts_filling`: those
    that fill a query up count though they are not seen."""

    lengths: Mapping[str, int]
    expansion: Expansion | None = None
    skipped: tuple[str, ...] = ()
    skipping: tuple[str, ...] = (DOCUMENT,)
    only: tuple[int, ...] = ()
    counts_filling: bool = False


def read_token_vectors(folder: Path, listed: list[Module]) -> TokenVectors:
    """What the Transformer and the MultiVectorMask among the modules `listed` of `folder` say.

    Raises CheckpointError for values that sentence-transformers does not take either.
    """
    file, settings = transformer_settings(folder)
    lengths = {side: settings.get(f"{side}_length") for side in (QUERY, DOCUMENT)}
    for side, value in lengths.items():
        if value is not None and not _is_count(value):
            raise _wrong(f"{side}_length above 0", file, value)
    expansion = _expansion(settings[SIDES[2]], file) if settings.get(SIDES[2]) is not None else None
    if expansion and (lengths[QUERY] or expansion.length) < expansion.length:
        raise _wrong(f"query_length of at least {expansion.length}, to which queries are filled up", file,
                     lengths[QUERY])  # fmt: skip
    masks = [folder / one.path / "config.json" for one in listed if one.kind == TOKEN_MASK]
    if len(masks) > 1:
        raise CheckpointError(f"Expected one {TOKEN_MASK} in {str(folder)!r}, received {len(masks)}.")
    mask = optional(masks[0]) if masks else {}
    sides, words = mask.get("skiplist_tasks") or [DOCUMENT], mask.get("skiplist_words") or []
    sides = [sides] if isinstance(sides, str) else sides
    only = mask.get("keep_only_token_ids") or []
    kinds = (
        (words, str, "skiplist_words"),
        (sides, str, "skiplist_tasks"),
        (only, int, "keep_only_token_ids"),
    )
    for values, kind, name in kinds:
        if not isinstance(values, list) or not all(isinstance(x, kind) for x in values):
            raise _wrong(f"a list as {name}", masks[0], values)
    return TokenVectors(
        {side: value for side, value in lengths.items() if value is not None},
        expansion,
        tuple(words),
        tuple(sides),
        tuple(only),
        bool(masks),
    )


def _expansion(stated: Any, file: Path | None) -> Expansion:
    known = {"strategy", "attend", "token", "length"}
    if not isinstance(stated, dict) or set(stated) - known or stated.get("strategy") not in ("fixed", "min"):
        raise _wrong("query_expansion with strategy fixed or min, length, attend and token", file, stated)
    length, attend, token = stated.get("length"), stated.get("attend", False), stated.get("token")
    if (
        not isinstance(length, int)
        or not _is_count(length)
        or not isinstance(attend, bool)
        or not isinstance(token, str | None)
    ):
        raise _wrong("query_expansion with a length above 0, attend true or false, and a token", file, stated)
    return Expansion(length, stated["strategy"] == "fixed", attend, token)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _wrong(expected: str, file: Path | None, received: Any) -> CheckpointError:
    return CheckpointError(f"Expected {expected} in {str(file)!r}, received {str(received)[:80]!r}.")
