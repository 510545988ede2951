"""Splits by hash of the text: the same text goes to the same split, whatever rows are appended."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

SPLITS = ("train", "validation", "test")


def position(text: str, seed: int = 0) -> float:
    """A number in [0, 1) that depends on `text` and `seed` alone."""
    digest = blake2b(f"{seed}\0{text}".encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def split_of(place: float, shares: Sequence[float]) -> str:
    """The split in which `place` falls."""
    if place < shares[0]:
        return "train"
    rest = place - shares[0]
    if shares[2] == 0 or (shares[1] > 0 and rest < shares[1]):
        return "validation" if shares[1] > 0 else "train"
    return "test"


def stratified(places: Sequence[float], labels: Sequence[str], shares: Sequence[float]) -> list[str]:
    """One split per row, each label divided by `shares` as near as whole rows allow.

    Rows are taken in the order of `places`; equal places (equal texts) of a label stay together.
    Unlike `split_of` it moves rows near a border when rows are appended.
    """
    splits = [""] * len(places)
    groups: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        groups.setdefault(label, []).append(i)
    for members in groups.values():
        members.sort(key=lambda i: (places[i], i))
        previous, split = -1.0, "train"
        for rank, i in enumerate(members):
            if places[i] != previous:
                split = split_of((rank + 0.5) / len(members), shares)
            splits[i], previous = split, places[i]
    return splits
