"""A smaller vocabulary: tokenizer.json with fewer tokens, which reads the texts it was made for as before.

What makes that exact: WordPiece takes the longest match, Unigram the best path, and BPE applies merges in
order. Tokens that were never part of an answer can go without changing one, as long as (BPE) every merge on
the way to a kept token stays.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from optkit.errors import CheckpointError

KINDS = ("WordPiece", "WordLevel", "BPE", "Unigram")
#: Marks at the start of a piece that are no letter of it.
_MARKS = ("##", "▁", "Ġ")


def vocabulary(tokenizer: dict[str, Any]) -> list[str]:
    """The tokens by id, added ones included. CheckpointError for another kind of tokenizer, or gaps."""
    model = tokenizer.get("model") or {}
    if model.get("type") not in KINDS:
        raise CheckpointError(
            f"Cannot prune the vocabulary of a tokenizer of type {model.get('type')!r}.",
            hint=f"Known: {', '.join(KINDS)}.",
        )
    if model["type"] == "Unigram":
        ids = {piece: i for i, (piece, _) in enumerate(model["vocab"])}
    else:
        ids = dict(model["vocab"])
    ids |= {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise CheckpointError("Expected a tokenizer whose ids run from 0 without a gap or a double.")
    return tokens


def kept(tokenizer: dict[str, Any], used: Iterable[int], extra: Iterable[str] = ()) -> list[int]:
    """The ids that stay, rising: those `used`, added and special tokens, `extra`, and the safety set: every
    token of a single character, so that a word never seen can still be spelled; for BPE also all parts."""
    tokens = vocabulary(tokenizer)
    ids = {token: i for i, token in enumerate(tokens)}
    model = tokenizer["model"]
    stay = {i for i in used if i < len(tokens)} | {ids[t] for t in extra if t in ids}
    stay |= {token["id"] for token in tokenizer.get("added_tokens", [])}
    stay |= {i for token, i in ids.items() if len(_bare(token)) <= 1 or _is_byte(token)}
    if model.get("unk_token") in ids:
        stay.add(ids[model["unk_token"]])
    if model["type"] == "Unigram" and model.get("unk_id") is not None:
        stay.add(model["unk_id"])
    if model["type"] == "BPE":
        merges: dict[str, list[tuple[str, str]]] = {}
        for pair in map(_pair, model["merges"]):
            merges.setdefault("".join(pair), []).append(pair)
        waiting = [tokens[i] for i in stay]
        while waiting:
            for pair in merges.get(waiting.pop(), []):
                for part in pair:
                    if ids[part] not in stay:
                        stay.add(ids[part])
                        waiting.append(part)
    return sorted(stay)


def shrunk(tokenizer: dict[str, Any], keep: list[int]) -> dict[str, Any]:
    """tokenizer.json with the tokens `keep` alone, renumbered in their order."""
    new = copy.deepcopy(tokenizer)
    tokens, model = vocabulary(tokenizer), new["model"]
    ids = {tokens[old]: number for number, old in enumerate(keep)}
    if model["type"] == "Unigram":
        stay = set(keep)
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in stay]
        if model.get("unk_id") is not None:
            model["unk_id"] = keep.index(model["unk_id"])
    else:
        model["vocab"] = {token: ids[token] for token in model["vocab"] if token in ids}
    if model["type"] == "BPE":
        merges = [(merge, _pair(merge)) for merge in model["merges"]]
        model["merges"] = [m for m, (a, b) in merges if a in ids and b in ids and a + b in ids]
    for token in new.get("added_tokens", []):
        token["id"] = ids[token["content"]]
    if new.get("padding"):
        new["padding"]["pad_id"] = ids[new["padding"]["pad_token"]]
    _renumber(new.get("post_processor"), ids)
    return new


def renumbered(settings: dict[str, Any], keep: list[int]) -> dict[str, Any]:
    """config.json, generation_config.json or tokenizer_config.json with the new ids of special tokens."""
    number = {old: new for new, old in enumerate(keep)}

    def of(value: int | list[int]) -> int | list[int]:
        return [number[v] for v in value] if isinstance(value, list) else number.get(value, value)

    new = {k: of(v) if k.endswith("_token_id") and v is not None else v for k, v in settings.items()}
    decoder = settings.get("added_tokens_decoder")
    if decoder:
        new["added_tokens_decoder"] = {str(number[int(i)]): token for i, token in decoder.items()}
    if "vocab_size" in settings:
        new["vocab_size"] = len(keep)
    return new


def _renumber(processor: dict[str, Any] | None, ids: dict[str, int]) -> None:
    """Give the special tokens in a post-processor their new ids, in place."""
    if not processor:
        return
    for part in processor.get("processors", []):  # a sequence
        _renumber(part, ids)
    for name in ("sep", "cls"):  # BERT's and RoBERTa's
        if name in processor:
            processor[name] = [processor[name][0], ids[processor[name][0]]]
    special = processor.get("special_tokens")  # a template
    for entry in special.values() if isinstance(special, dict) else ():
        entry["ids"] = [ids[token] for token in entry["tokens"]]


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _bare(token: str) -> str:
    for mark in _MARKS:
        if token != mark and token.startswith(mark):
            return token[len(mark) :]
    return token


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")
