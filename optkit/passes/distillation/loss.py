"""What a student is told off for: answers, hidden states and attention that differ from the teacher's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


#: Heads into which queries, keys and values are divided for relations (12 in Wang et al. 2020 for a
#: student of that width): the largest number up to this that divides both widths.
RELATION_HEADS = 12


def soft_labels(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, valid: torch.Tensor | None = None
) -> torch.Tensor:
    """KL divergence to the teacher's soft labels, times the square of `temperature` (Hinton et al. 2015).

    `student` and `teacher` are logits of the shape (..., labels); `valid` (...) says which count.
    """
    import torch.nn.functional as F

    target = F.log_softmax(teacher / temperature, dim=-1)
    predicted = F.log_softmax(student / temperature, dim=-1)
    apart = F.kl_div(predicted, target, reduction="none", log_target=True).sum(-1)
    return _mean(apart, valid) * temperature**2


def hidden_states(
    student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor], valid: torch.Tensor | None
) -> torch.Tensor:
    """Sum over pairs of states, (batch, tokens, width), of the mean squared error, padding left out."""
    return sum(_mean((s - t).pow(2).mean(-1), valid) for s, t in zip(student, teacher))


def values(student: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared error of outputs that are no distribution: scores, vectors.

    With `valid` (batch, tokens) they are (batch, tokens) or (batch, tokens, values), and padding is left out.
    """
    apart = (student - teacher).pow(2)
    one_each = valid is not None and apart.shape == valid.shape
    return _mean(apart if one_each else apart.mean(-1), valid)


def relations(
    student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor], valid: torch.Tensor | None
) -> torch.Tensor:
    """KL divergence of the relations among queries, among keys and among values (MiniLM-v2, Wang et al.
    2020): softmax(XX'/√d) per relation head, so that widths and numbers of heads may differ.

    Each is (batch, tokens, all heads); `valid` is (batch, tokens). The mean over heads and tokens, summed
    over the three.
    """
    import torch.nn.functional as F

    total: torch.Tensor | float = 0.0
    for own, its in zip(student, teacher):
        heads = relation_heads(own.shape[-1], its.shape[-1])
        predicted, target = (F.log_softmax(_products(x, heads, valid), dim=-1) for x in (own, its))
        apart = F.kl_div(predicted, target, reduction="none", log_target=True).sum(-1)
        total = total + _mean(apart.mean(1), valid)
    return total


def relation_heads(*widths: int) -> int:
    """The largest number of relation heads that divides all `widths`.

    >>> relation_heads(384, 224)
    8
    """
    common = math.gcd(*widths)
    return max(n for n in range(1, RELATION_HEADS + 1) if common % n == 0)


def hard_labels(student: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy to `labels` (batch,) where they are at least 0; 0 where none is."""
    import torch.nn.functional as F

    known = (labels >= 0).sum().clamp_min(1)
    return F.cross_entropy(student, labels, ignore_index=-1, reduction="sum") / known


def _products(x: torch.Tensor, heads: int, valid: torch.Tensor | None) -> torch.Tensor:
    """Scaled products of all pairs of tokens per relation head, padding never looked at."""
    batch, tokens, width = x.shape
    split = x.reshape(batch, tokens, heads, width // heads).transpose(1, 2)
    products = split @ split.transpose(2, 3) / math.sqrt(width // heads)
    return products if valid is None else products.masked_fill(valid[:, None, None] == 0, -1e4)


def _mean(rows: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    if valid is None or valid.shape != rows.shape:
        return rows.mean()
    return (rows * valid).sum() / valid.sum()
