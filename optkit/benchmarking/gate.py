"""`Gate`: what a candidate must keep to be chosen."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from decimal import Decimal

from optkit.core.quantities import DROP, FACTOR, PART, check_all
from optkit.errors import RecipeError
from optkit.report.facts import GateResult
from optkit.report.interval import Interval
from optkit.report.model import Answers, Row

#: The least agreement asked where no data has labels, at the lower end of its 95% interval.
MIN_AGREEMENT = 0.9
#: Precisions in which an answer may depend on its batch.
PROBED = ("int8", "weight-only")


def share(text: str | float, flag: str) -> float:
    """ "95%" or "0.95" as 0.95. Raises RecipeError."""
    return PART.percentage(text, flag, "No number of texts can show an agreement of 100%.")


@dataclass(frozen=True)
class Gate:
    """What a candidate must keep: at most `max_drop` in the metric, at least `min_speedup`.

    `relative`: the drop is a share of the baseline's score, else it is absolute in the metric.
    `min_speedup` is against the first row on the data's own lengths, and must hold at the lower
    end of its 95% interval. `batch_invariant`: an INT8 candidate's answers may not depend on the texts
    that share their batch, as the neighbours probe finds (`optkit.benchmarking.batch_invariance`).
    `min_agreement` is the least share of answers that equal the first row's, and must hold at the lower end
    of its exact 95% interval (`optkit.benchmarking.fidelity`); it is what is asked where no data has labels.

    >>> Gate.parse("1%", "1.5").describe()
    'at most 1% of the score lost, at least 1.5 times as fast'
    """

    max_drop: float | None = 0.01
    relative: bool = True
    min_speedup: float | None = None
    batch_invariant: bool = False
    min_agreement: float | None = None

    def __post_init__(self) -> None:
        check_all(self, {"max_drop": DROP, "min_agreement": PART, "min_speedup": FACTOR})
        if self.max_drop is None:
            object.__setattr__(self, "relative", True)  # says nothing then: equal gates compare equal
        if not isinstance(self.batch_invariant, bool):
            raise RecipeError(
                f"Expected batch_invariant to be true or false, received {self.batch_invariant!r}."
            )

    @classmethod
    def parse(
        cls,
        max_drop: str | float | None = "1%",
        min_speedup: str | float | None = None,
        min_agreement: str | float | None = None,
        batch_invariant: bool = False,
    ) -> Gate:
        """From flags: "1%" is relative, "0.01" absolute. Raises RecipeError for anything else."""
        drop, relative = None, True
        if max_drop is not None:
            relative = str(max_drop).rstrip().endswith("%")
            hint = "1% is relative to the baseline's score; 0.01 is in the metric itself."
            drop = DROP.percentage(max_drop, "--max-drop", hint)
        speedup = None if min_speedup is None else FACTOR.parse(min_speedup, "--min-speedup")
        agreement = None if min_agreement is None else share(min_agreement, "--min-agreement")
        return cls(drop, relative, speedup, batch_invariant, agreement)

    def of_fidelity(self) -> Gate:
        """This gate where nobody knows the right answers: agreement is asked in place of the score."""
        least = MIN_AGREEMENT if self.min_agreement is None else self.min_agreement
        return dataclasses.replace(self, max_drop=None, relative=True, min_agreement=least)

    def describe(self) -> str:
        parts = []
        if self.min_agreement is not None:
            parts.append(f"at least {self.min_agreement * 100:g}% of the answers the same, for certain (95%)")
        if self.max_drop is not None:
            amount = f"{self.max_drop * 100:g}% of the score" if self.relative else f"{self.max_drop:g}"
            parts.append(f"at most {amount} lost")
        if self.min_speedup is not None:
            parts.append(f"at least {self.min_speedup:g} times as fast")
        if self.batch_invariant:
            parts.append("no answer that depends on its batch")
        return ", ".join(parts) or "no condition"

    def drop_text(self) -> str | None:
        """`max_drop` as `parse` reads it back, exactly."""
        if self.max_drop is None:
            return None
        return f"{_plain(self.max_drop, 2)}%" if self.relative else _plain(self.max_drop)

    def allowed_drop(self, score: float) -> float | None:
        """The most that a baseline's `score` may drop, in the metric; None: any drop."""
        if self.max_drop is None:
            return None
        return self.max_drop * abs(score) if self.relative else self.max_drop

    def drop_reasons(self, drop: float, score: float, what: str = "score") -> list[str]:
        """Why a `drop` from a baseline's `score` is too much; empty where it is allowed."""
        allowed = self.allowed_drop(score)
        if allowed is None or drop <= allowed + 1e-12:
            return []
        return [f"the {what} drops by {drop:.4f}, allowed are {allowed:.4f}"]

    def drop_doubts(self, drop: Interval | None, score: float, examples: int) -> list[str]:
        """The doubt that so few `examples` leave about a `drop` that was allowed."""
        allowed = self.allowed_drop(score)
        if allowed is None or drop is None or not drop.high > allowed:
            return []
        return [
            f"{examples} examples are too few to promise a drop of at most {allowed:.4f}: the 95% interval "
            f"of the drop reaches {drop.high:.4f}."
        ]

    def reasons(self, row: Row, baseline: Row | Answers, tuned: Row | None = None) -> list[str]:
        """Why `row` fails; empty where it passes. It may not be slower than `tuned` (fp32) either."""
        reasons = self.drop_reasons(baseline.score - row.score, baseline.score)
        if self.min_agreement is not None:
            reasons += _differs(row, self.min_agreement)
        least = row.speedup.low if row.speedup else math.nan
        if self.min_speedup is not None and not least >= self.min_speedup:
            shown = f"at least {least:.2f}" if math.isfinite(least) else "unknown"
            reasons.append(f"its speedup is {shown}, asked are {self.min_speedup:g}")
        neighbours = row.probes.get("neighbours")
        if self.batch_invariant and row.precision in PROBED and neighbours is None:
            reasons.append("whether its answers depend on their batch is not known: it was not probed")
        if self.batch_invariant and neighbours is not None and neighbours["invariant"] is not True:
            reasons.append(
                f"its answers depend on their batch: the outputs differ by up to "
                f"{neighbours['largest_difference']:.3g}, {neighbours['flipped']} of "
                f"{neighbours['examples']} predictions change"
            )
        if tuned is not None:
            reasons += _slower(row, tuned)
        return reasons

    def result(self, chosen: Row | None) -> GateResult:
        """What a report says of it, where the row `chosen` was taken."""
        passed = chosen is not None and chosen.verdict == "passed"
        return GateResult(**vars(self), conditions=self.describe(), passed=passed)


def _differs(row: Row, least: float) -> list[str]:
    """Why the answers of `row` are too far from the first row's; what was not compared is."""
    low, share = row.fidelity.get("agreement_low", math.nan), row.fidelity.get("agreement", math.nan)
    if isinstance(low, (int, float)) and low >= least:
        return []
    if not isinstance(low, (int, float)) or not math.isfinite(low):
        return [f"its answers were not compared, asked is an agreement of {least:.4g}"]
    return [
        f"{share:.2%} of {row.fidelity['texts']} answers are the same, which shows {low:.2%} at least; "
        f"asked are {least:.4g}"
    ]


def _slower(row: Row, tuned: Row) -> list[str]:
    """Why `row` may not pass beside `tuned`, fp32: what was not timed is not faster."""
    for one in (row, tuned):
        ends = (one.speedup.low, one.speedup.high) if one.speedup else (math.nan,)
        if not all(map(math.isfinite, ends)):
            return [f"whether it is slower than {tuned.name} is not known: {one.name} has no speedup"]
    assert row.speedup is not None
    assert tuned.speedup is not None
    return [f"it is slower than {tuned.name}"] if row.speedup.high < tuned.speedup.low else []


def _plain(number: float, shift: int = 0) -> str:
    """`number` times 10 to the `shift`, exactly and without an exponent, so that it reads back the same."""
    return format(Decimal(repr(float(number))).scaleb(shift), "f")
