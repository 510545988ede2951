"""Texts that end where one of some sequences would begin."""

from __future__ import annotations

from collections.abc import Sequence

from optkit.errors import DataError

#: The most sequences for one text, and the most characters of one.
MOST, LONGEST = 16, 200


class StopSequences:
    """One text, which comes in pieces and ends before the first of `stops`; `waiting` is held back, as one
    may begin there.

    >>> text = StopSequences(["END"])
    >>> [text.add("a b E"), text.add("N"), text.add("D c"), text.ended]
    ['a b ', '', '', True]
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self.waiting = ""
        self.ended = False

    def add(self, piece: str) -> str:
        """What of the text is certain, now that `piece` has come: no end of it may begin a sequence."""
        if self.ended:
            return ""
        text = self.waiting + piece
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.ended, self.waiting = True, ""
            return text[: min(places)]
        waits = max((_overlap(text, stop) for stop in self._stops), default=0)
        self.waiting = text[len(text) - waits :]
        return text[: len(text) - waits]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`."""
    most = min(len(text), len(stop) - 1)
    return next((size for size in range(most, 0, -1) if text.endswith(stop[:size])), 0)


def checked(stops: str | Sequence[str] | None) -> tuple[str, ...]:
    """`stops` as a tuple. Raises DataError for what are none.

    >>> checked("END"), checked(None)
    (('END',), ())
    """
    each = () if stops is None else (stops,) if isinstance(stops, str) else tuple(stops)
    if len(each) > MOST or not all(isinstance(stop, str) and 0 < len(stop) <= LONGEST for stop in each):
        raise DataError(
            f"Expected at most {MOST} stop sequences of 1 to {LONGEST} characters, received "
            f"{len(each)}: {each!r}"[:300]
            + "."
        )
    return each
