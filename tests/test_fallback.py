from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from optkit.fallback import fewest

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
    if found.kept is None:  # needs all but the last: bisection never tries more than it must
        assert not any(set(needed) <= set(kept) for kept in asked)
    else:
        assert set(needed) <= set(found.kept)
        assert found.kept in asked


def test_the_way_back_quantizes_what_was_harmless():
    good, _ = asking({"m9"})
    found = fewest(NAMES, good)
    assert len(found.kept) < 10
    assert "m9" in found.kept
    assert any("harmless" in line for line in found.trace)


def test_a_goal_that_nothing_meets_says_so():
    found = fewest(NAMES, lambda kept: (False, ""))
    assert found.kept is None
    assert all("missed" in line for line in found.trace)
