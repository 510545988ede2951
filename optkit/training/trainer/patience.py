"""Early stopping that goes by the scores so far, so that a resumed run stops where an uninterrupted one does.

transformers' own counts in memory, from zero again after a kill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import transformers


def used_up(scores: Sequence[float], patience: int) -> bool:
    """Whether so many of the last scores are no better than the best before them.

    >>> used_up([0.5, 0.7, 0.7], 2), used_up([0.5, 0.7, 0.7, 0.6], 2)
    (False, True)
    """
    return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= patience


def early_stopping(patience: int) -> transformers.TrainerCallback:
    """The Trainer's callback: it ends a run after `patience` looks without a better score."""
    from transformers import TrainerCallback

    class Patience(TrainerCallback):
        def on_evaluate(
            self,
            args: transformers.TrainingArguments,
            state: transformers.TrainerState,
            control: transformers.TrainerControl,
            **_: object,
        ) -> None:
            name = f"eval_{args.metric_for_best_model}"
            if used_up([e[name] for e in state.log_history if name in e], patience):
                control.should_training_stop = True

        on_train_begin = on_evaluate  # a run that was killed after its last epoch has nothing to train

    return Patience()
