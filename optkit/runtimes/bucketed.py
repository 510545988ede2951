"""`Bucketed`: lengths rounded up, for engines that prepare themselves anew for every other length.

OpenVINO takes a third of a millisecond for it on MiniLM-L6 (two shapes in turn against each alone); what
padding costs instead depends on the model and the lengths, so `--tune-runtime` measures it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from optkit.errors import RecipeError
from optkit.runtimes.base import Decoder, Feeds, Session
from optkit.runtimes.cuda.buckets import cut, fill


class Bucketed(Session):
    """`session`, with each batch padded to a multiple of `step` tokens, at most `longest` of them.

    The mask hides what is added, and outputs with a value per token are cut back to the length that came in.
    Inputs of one size, such as images, and the tokens of a decoder pass as they are.

    Raises RecipeError for a step below 1.
    """

    def __init__(self, session: Session, step: int, longest: int | None = None) -> None:
        if isinstance(step, bool) or not isinstance(step, int) or step < 1:
            raise RecipeError(
                f"Expected bucket to be a number of tokens from 1 on, received {step!r}.",
                hint="A bucket of 16 pads 17 tokens to 32; 1 leaves lengths as they are.",
            )
        self._session, self._step, self._longest = session, step, longest
        self.inputs, self.outputs, self.device = session.inputs, session.outputs, session.device
        self._per_token = session.per_token()

    @property
    def thread_safe(self) -> bool:  # type: ignore[override]
        return self._session.thread_safe

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        mask = feeds.get("attention_mask")
        if mask is None or mask.ndim != 2:
            return self._session.infer(feeds)
        batch, tokens = mask.shape
        long = -(-tokens // self._step) * self._step
        long = max(tokens, min(long, self._longest or long))
        if long == tokens:
            return self._session.infer(feeds)
        return cut(self._session.infer(fill(feeds, batch, long)), self._per_token, batch, tokens)

    def decoder(self) -> Decoder:
        return self._session.decoder()

    def close(self) -> None:
        self._session.close()
