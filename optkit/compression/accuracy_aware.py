"""`AccuracyAwareLoop`: where no candidate keeps the score, gentler ones are tried.

What `optkit.compression.mixed_precision.search` tries is a variant of the recipe's first `quantize-static`.
"""

from __future__ import annotations

import math

from optkit.artifact import Artifact
from optkit.compression.loop import Loop
from optkit.compression.mixed_precision import Ranked, search
from optkit.compression.resume_cache import step_folder
from optkit.compression.sensitivity_ranking import ranked
from optkit.data.dataset import Data
from optkit.events import Note
from optkit.passes.base import Pass


class AccuracyAwareLoop(Loop):
    """A `Loop` that goes on where every candidate misses the gate's score; `trace` says what it tried."""

    def _go_on(self, chains: list[tuple[Pass, ...]], root: str) -> None:
        """Each trial is a row of its own; those that miss the score are not timed."""
        allowed = self.recipe.gate.allowed_drop(self.rows[0].score)
        static = next((c for c in chains if c[-1].name() == "quantize-static"), None)
        if allowed is None or static is None or not isinstance(self.data, Data):
            return
        before, source = static[:-1], self._made(static[:-1], root)
        needed = self.rows[0].score - allowed - 1e-12
        if source is None or any(self._score_of(leaf) >= needed for leaf in self.leaves):
            return

        def attempt(step: Pass) -> float:
            failed = self._attempt((*before, step), root)
            return -math.inf if failed else self._score_of(self.leaves[-1])

        def rank(step: Pass) -> list[Ranked]:
            return self._ranked(step, source, self._made((*before, step), root))

        tried, leaf = len(self.leaves), self._named.get(self._key(root, *static))
        score = self._score_of(leaf) if leaf else -math.inf
        self.trace += search(static[-1], score, needed, attempt, rank)
        best = max(self.leaves, key=self._score_of)
        self._hopeless = {x for x in self.leaves[tried:] if x != best and self._score_of(x) < needed}
        for line in self.trace:
            self.events(Note(line))

    def _score_of(self, name: str) -> float:
        """The score of the row `name`; below all others where it has none."""
        row = next(r for r in self.rows if r.name == name)
        return -math.inf if row.verdict == "error" else row.score

    def _made(self, chain: tuple[Pass, ...], root: str) -> Artifact | None:
        """What `chain` made; None where it failed."""
        folder = step_folder(self.work, chain[-1], self._key(root, *chain)) if chain else None
        return Artifact.open(folder) if folder and folder.exists() else None

    def _ranked(self, step: Pass, source: Artifact, made: Artifact | None) -> list[Ranked]:
        """The multiplies that `step` rounds; the scan of an earlier run is not made again."""
        assert isinstance(self.data, Data)  # `_go_on` asked
        self._begin("sensitivity scan")
        return ranked(
            step,
            source,
            made,
            self.work / f"sensitivity-{self._key(source.fingerprint(), step)}.json",
            self.evaluator.examples_for(source, self.checkpoint) or str(self.evaluator.encoded_file),
            self.data,
            self.columns,
            self.evaluator.task.name,
            self.evaluator.plan.threads,
            self.events,
        )
