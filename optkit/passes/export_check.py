"""What an exported graph is compared with torch on: where masks, windows and positions can go wrong.

Real texts of the data are short and padded on one side. Windows, causality and padding show at lengths just
below, at and above each window, at the longest input, with padding on either side, and in batches of unequal
lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optkit.data.examples import EncodedSet
from optkit.errors import PassError, first_line
from optkit.models.limits import token_limit
from optkit.passes import graph
from optkit.runtimes import kv_cache

#: Longer inputs are compared only where a window ends there: attention's memory grows with the square.
LONGEST, LONGEST_WINDOW = 512, 4097
#: A few tokens, as most requests have; 1 is a shape of its own.
FEW = (1, 3, 7)
#: Names of windows in a config.json.
_WINDOWS = ("sliding_window", "local_attention", "attention_window", "attention_chunk_size", "window_size")


#: Outputs that are right, and others → these in the order of those.
Align = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], Sequence[np.ndarray]]
#: Logits of a language model that are compared in each text: the last ones, a vocabulary each.
LAST_LOGITS = 4


@dataclass(frozen=True)
class Check:
    """`feeds` for the model, called `name` in errors; `real` (batch, tokens) says which tokens are no padding
    (None for images)."""

    name: str
    feeds: dict[str, np.ndarray]
    real: np.ndarray | None


def of_data(samples: EncodedSet, names: Sequence[str]) -> list[Check]:
    """All of `samples` in one padded batch, and the shortest alone, of the inputs `names`."""
    lengths, result = samples.lengths, []
    for title, indices in (
        ("texts of the data", np.arange(len(lengths))),
        ("a text", np.argsort(lengths)[:1]),
    ):
        batch = samples.batch(indices)
        real = np.arange(max(lengths[indices]))[None, :] < lengths[indices][:, None]
        result.append(Check(title, {n: batch[n] for n in names}, real if samples.ragged else None))
    return result


def other_sizes(samples: EncodedSet) -> list[Check]:
    """Images of other sizes than those of the data: one turned by 90 degrees, and one a third smaller."""
    pixels = samples.batch([0])["pixel_values"]
    height, width = (side - side // 48 * 16 for side in pixels.shape[2:])
    turned = np.ascontiguousarray(pixels.swapaxes(2, 3))
    cut = np.ascontiguousarray(pixels[..., :height, :width])
    return [
        Check(name, {"pixel_values": values}, None)
        for name, values in (("an image that is turned", turned), ("a smaller image", cut))
    ]


def of_sound(samples: EncodedSet) -> Iterator[Check]:
    """The longest of `samples` cut to odd lengths, each alone: what convolutions leave over differs."""
    values = max(samples.arrays["input_values"], key=len)
    least = min(map(len, samples.arrays["input_values"]))
    for count in sorted({least, least + 1, *(len(values) * k // 7 for k in (2, 5)), len(values)}):
        if least <= count:
            yield Check(f"{count} samples", {"input_values": values[None, :count]}, None)


def lengths(config: Mapping[str, Any]) -> list[int]:
    """The lengths in tokens that a model with this config.json is compared at, in order.

    A window may be stated whole or by its half (ModernBERT's `local_attention` reaches half of it to either
    side), so both are taken.
    """
    most = min(token_limit(config) or LONGEST, LONGEST)
    reach = token_limit(config) or LONGEST_WINDOW
    edges = [edge for window in windows(config) for edge in (window // 2, window)]
    near = [
        edge + step for edge in edges for step in (-1, 0, 1, 2) if edge + step <= min(reach, LONGEST_WINDOW)
    ]
    return sorted({n for n in (*FEW, *near, most) if 1 <= n <= reach})


def windows(config: Mapping[str, Any]) -> list[int]:
    """Every width of a window or chunk that the configuration, or that of its text model, states."""
    parts = [config, *(config[n] for n in ("text_config", "encoder") if isinstance(config.get(n), Mapping))]
    stated = [part.get(name) for part in parts for name in _WINDOWS]
    flat = [n for value in stated for n in (value if isinstance(value, (list, tuple)) else [value])]
    return sorted({n for n in flat if isinstance(n, int) and not isinstance(n, bool) and n > 1})


def checks(
    config: Mapping[str, Any],
    names: Sequence[str],
    pad_id: int,
    causal: bool,
    samples: EncodedSet | None = None,
) -> Iterator[Check]:
    """Batches for a model of text that takes the inputs `names`: each length alone, and three texts of
    unequal lengths padded on the right and on the left.

    Ids are random with a fixed seed, over the whole vocabulary but the special ones that the configuration
    names; a text ends as texts of this model do, and its second half is of the second type, where the model
    knows types. For a language model (`causal`) only the last logits are asked for. What a token has beside
    (its box) is drawn from `samples`.
    """
    rng = np.random.default_rng(0)
    special = {
        pad_id,
        *(config.get(f"{name}_token_id") for name in ("bos", "eos", "cls", "sep", "mask", "unk")),
    }
    vocabulary = min(int(config.get("vocab_size") or 1000), 50_000)
    ids = np.array([i for i in range(vocabulary) if i not in special] or [pad_id])
    end = config.get("eos_token_id")
    given = samples.arrays if samples is not None else {}
    beside = {n: np.concatenate(given[n]) for n in names if n in given and given[n][0].ndim > 1}
    known = isinstance(end, int) and 0 <= end < int(config.get("vocab_size") or 2**31)
    end = end if known and end != pad_id else None

    def batch(title: str, rows: np.ndarray, sizes: list[int], side: str) -> Check:
        feeds, real = _padded(rows, sizes, side, pad_id, end)
        feeds |= {name: rng.choice(values, rows.shape) * real[..., None] for name, values in beside.items()}
        if causal:
            feeds[kv_cache.POSITIONS] = kv_cache.positions(feeds["attention_mask"], rows.shape[1])
            feeds[kv_cache.KEEP] = np.arange(max(0, rows.shape[1] - LAST_LOGITS), rows.shape[1])
            real = real[:, feeds[kv_cache.KEEP]]
        return Check(title, {name: feeds[name] for name in names}, real)

    tested = lengths(config)
    for tokens in tested:
        yield batch(f"{tokens} tokens", rng.choice(ids, (1, tokens)), [tokens], "right")
    longest = tested[-1]
    unequal = [longest, max(1, longest // 2), min(3, longest)]
    rows = rng.choice(ids, (len(unequal), longest))
    for side in ("right", "left"):
        yield batch(f"{', '.join(map(str, unequal))} tokens, padded on the {side}", rows, unequal, side)


def _padded(
    ids: np.ndarray, sizes: Sequence[int], side: str, pad_id: int, end: int | None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    tokens = ids.shape[1]
    position, size = np.arange(tokens)[None, :], np.array(sizes)[:, None]
    real = position < size if side == "right" else position >= tokens - size
    ids = np.where(real, ids, pad_id)
    if end is not None:
        ids[np.arange(len(ids)), np.array(sizes) - 1 if side == "right" else tokens - 1] = end
    types = real & (position >= tokens // 2)
    arrays = {"input_ids": ids, "attention_mask": real, "token_type_ids": types}
    return {name: array.astype(np.int64) for name, array in arrays.items()}, real


def largest_difference(
    checks: Sequence[Check],
    expected: Sequence[Sequence[np.ndarray]],
    answer: Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]],
    source: Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]],
    per_token: Sequence[bool],
    tolerance: float,
    names: tuple[str, str],
    aligned: Align = lambda right, others: others,
) -> float:
    """The largest difference of what `answer` gives to what is `expected`, over all `checks`.

    `source` gives the outputs of the model that is right, which `expected` holds already: where they depend
    on what the padding is, they mean nothing, and a difference there is none. `per_token` says of each output
    whether it has a value per token, `names` how the right one and the other are called in errors, `aligned`
    puts the others in the order of the right ones where that means nothing (`Task.aligned`). Raises PassError
    for a larger difference than `tolerance`, absolute plus relative, and for NaN.
    """
    worst = 0.0
    for check, right in zip(checks, expected):
        try:
            received = answer(check.feeds)
        except Exception as reason:  # an engine's own
            raise PassError(
                f"Expected {names[1]} to answer at {check.name}, received an error: {first_line(reason)}",
                hint="This architecture can be served in torch (pass serve-torch), not as a graph.",
            ) from reason
        try:
            received = aligned(right, received)
            worst = max(worst, compare(check, right, received, per_token, tolerance, names))
        except PassError:
            if not _reads_padding(check, right, source):
                raise
    return worst


def compare(
    check: Check,
    expected: Sequence[np.ndarray],
    received: Sequence[np.ndarray],
    per_token: Sequence[bool],
    tolerance: float,
    names: tuple[str, str] = ("torch", "the exported graph"),
) -> float:
    """The same for one check, at tokens that are no padding."""
    worst = 0.0
    for a, b, tokens in zip(expected, received, per_token):
        if tokens and check.real is not None:
            a, b = a[check.real], b[check.real]
        for name, output in zip(names, (a, b)):
            graph.refuse_non_finite({"output": output}, f"{name[:1].upper()}{name[1:]}")
        difference = np.abs(a - b)
        worst = max(worst, float(difference.max(initial=0.0)))
        if (difference > tolerance * (1 + np.abs(a))).any():
            raise PassError(
                f"Expected {names[1]} to equal {names[0]} within {tolerance:g}, received a difference of "
                f"{worst:.3g} at {check.name}.",
                hint="Raise tolerance only where you know why they differ; pass serve-torch needs no graph.",
            )
    return worst


def _reads_padding(
    check: Check,
    expected: Sequence[np.ndarray],
    source: Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]],
) -> bool:
    """Whether the answers of `source` depend on the ids of the padding: as where a head that reads the first
    token is given texts padded on the left."""
    if check.real is None or "attention_mask" not in check.feeds:
        return False
    real, ids = check.feeds["attention_mask"] != 0, check.feeds["input_ids"]
    other = source({**check.feeds, "input_ids": np.where(real, ids, ids[real][0])})
    return any(not np.allclose(a, b, atol=1e-5) for a, b in zip(expected, other))
