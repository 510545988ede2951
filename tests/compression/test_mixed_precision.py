from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from optkit.compression.mixed_precision import LADDER, Ranked, by_worth, fewest, search
from optkit.passes.base import make

NAMES = tuple(f"m{i}" for i in range(38))


def asking(needed):
    """good(kept) that is met when all of `needed` are kept in float, and the list of what was asked."""
    asked = []

    def good(kept):
        asked.append(kept)
        return set(needed) <= set(kept), f"{len(kept)}"

    return good, asked


@given(st.sets(st.sampled_from(NAMES[:-1]), min_size=1))
def test_what_comes_out_meets_the_goal_in_few_evaluations(needed):
    good, asked = asking(needed)
    found = fewest(NAMES, good)
    assert len(asked) <= 6 + 4  # log2(38), then the groups of the way back
    assert len(found.trace) == len(asked)
    if found.in_float is None:  # needs all but the last: bisection never tries more than it must
        assert not any(set(needed) <= set(kept) for kept in asked)
    else:
        assert set(needed) <= set(found.in_float)
        assert found.in_float in asked


def test_the_way_back_quantizes_what_was_harmless():
    good, _ = asking({"m9"})
    found = fewest(NAMES, good)
    assert len(found.in_float) < 10
    assert "m9" in found.in_float
    assert any("harmless" in line for line in found.trace)


def test_a_goal_that_nothing_meets_says_so():
    found = fewest(NAMES, lambda kept: (False, ""))
    assert found.in_float is None
    assert all("missed" in line for line in found.trace)


RANKED = [Ranked(name, 1.0 / (i + 1), 10.0) for i, name in enumerate(NAMES)]


def searched(score_of, step=make("quantize-static", {})):
    """The trace of a search whose candidates score what `score_of(step)` says, and what was made."""
    made = []

    def attempt(step):
        made.append(step)
        return score_of(step)

    return search(step, score_of(step), 0.88 - 1e-12, attempt, lambda step: RANKED), made


def test_gentler_rounding_alone_may_do():
    trace, made = searched(lambda step: 0.88 if step.bias_correction else 0.80)
    assert made[-1].bias_correction
    assert made[-1].exclude == ()
    assert trace[-1].startswith("bias_correction = True: met (the score is 0.8800)")


def test_the_ladder_keeps_what_helped_and_drops_what_hurt():
    _, made = searched(lambda step: 0.8 + 0.02 * (step.smooth_quant > 0) - 0.05 * step.bias_correction)
    ladder, rest = made[: len(LADDER)], made[len(LADDER) :]
    assert [s.bias_correction for s in ladder] == [False, True, False]
    assert rest[0].scope == "ffn"
    assert all(s.smooth_quant == 0.85 and not s.bias_correction for s in rest)


def test_multiplies_go_back_by_worth_and_a_failure_is_no_end():
    needed = {one.name for one in RANKED[:3]}

    def score_of(step):
        if step.scope == "ffn":
            return -math.inf  # it failed
        return 0.9 if needed <= set(step.exclude) else 0.5

    trace, made = searched(score_of)
    assert any("feed-forward" in line and "it failed" in line for line in trace)
    assert needed <= set(made[-1].exclude) or any(needed <= set(s.exclude) for s in made)
    assert any("INT8 saves 10 µs" in line for line in trace)
    assert len(made) <= len(LADDER) + 1 + 6 + 4


def test_what_its_author_excluded_stays_excluded():
    _, made = searched(lambda step: 0.5, make("quantize-static", {"exclude": ("mine",)}))
    assert all("mine" in step.exclude for step in made)


def test_what_saves_little_goes_back_before_what_saves_much():
    ranked = [
        Ranked("slow", 3.0, 30.0),
        Ranked("cheap", 2.0, 1.0),
        Ranked("unknown", 1.0),
        Ranked("none", 0.1, -5.0),
    ]
    assert [one.name for one in by_worth(ranked)][:2] == ["none", "cheap"]
    assert sorted(one.name for one in by_worth(ranked)) == ["cheap", "none", "slow", "unknown"]


def test_without_a_profile_the_distance_alone_decides():
    assert [one.name for one in by_worth([Ranked("a", 1.0), Ranked("b", 2.0)])] == ["b", "a"]
