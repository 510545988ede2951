"""What a student is told off for: answers and hidden states that differ from the teacher's."""

from __future__ import annotations

from typing import Any


def soft_labels(student: Any, teacher: Any, temperature: float, valid: Any = None) -> Any:
    """KL divergence to the teacher's soft labels, times the square of `temperature` (Hinton et al. 2015).

    `student` and `teacher` are logits of the shape (..., labels); `valid` (...) says which count.
    """
    import torch.nn.functional as F

    target = F.log_softmax(teacher / temperature, dim=-1)
    found = F.log_softmax(student / temperature, dim=-1)
    apart = F.kl_div(found, target, reduction="none", log_target=True).sum(-1)
    return _mean(apart, valid) * temperature**2


def hidden_states(student: Any, teacher: Any, valid: Any) -> Any:
    """Sum over the student's states of the mean squared error to the teacher's, padding left out.

    Both are sequences of (batch, tokens, width). With fewer layers the student's states are matched
    to the teacher's at even distances, first and last to first and last.
    """
    steps = max(1, len(student) - 1)
    places = [round(i * (len(teacher) - 1) / steps) for i in range(len(student))]
    return sum(_mean((s - teacher[p]).pow(2).mean(-1), valid) for s, p in zip(student, places))


def values(student: Any, teacher: Any, valid: Any = None) -> Any:
    """Mean squared error of outputs that are no distribution: scores, vectors."""
    return _mean((student - teacher).pow(2).mean(-1), valid)


def _mean(rows: Any, valid: Any) -> Any:
    if valid is None or valid.shape != rows.shape:
        return rows.mean()
    return (rows * valid).sum() / valid.sum()
