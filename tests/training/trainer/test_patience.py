from __future__ import annotations

import pytest

from optkit.training.trainer.patience import used_up


@pytest.mark.parametrize(
    ("scores", "patience", "over"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.5], 1, True),
        ([0.5, 0.4, 0.6], 2, False),
        ([0.5, 0.7, 0.7, 0.6], 2, True),
        ([0.9, 0.1, 0.2, 0.3], 3, True),
    ],
)
def test_it_is_used_up_by_looks_no_better_than_the_best_before(scores, patience, over):
    assert used_up(scores, patience) is over
