"""Which trials are measured side by side in the end, and in what order: `rounds_of`."""

from __future__ import annotations

from optkit.compression.search.chain import EXPORT, chain_of
from optkit.compression.search.trial import NOTES
from optkit.training.tuning.results import StudyResult, TrialResult, front

#: Trials that are measured side by side at a time.
FINALISTS = 5
#: Measurements at most; another one follows where nothing passed in those before.
ROUNDS = 3


def rounds_of(result: StudyResult) -> list[list[TrialResult]]:
    """The trials that kept the score, a list for each measurement; else the one with the best score.

    First the front, the cheapest first, then what only the front beats, and so on: a trial cannot know all
    that the gate asks, so each of the front may miss it where one that is beaten does not.
    """
    notes = {t.number: t.notes.get(NOTES) or {} for t in result.trials}
    left = [t for t in result.complete if notes[t.number].get("feasible")]
    layers: list[list[TrialResult]] = []
    while left:
        numbers = front(left, result.objectives)
        layers.append(sorted((t for t in left if t.number in numbers), key=lambda t: t.values[1]))
        left = [t for t in left if t.number not in numbers]
    if not layers:
        scored = [t for t in result.trials if "score" in notes[t.number]]
        return [[max(scored, key=lambda t: notes[t.number]["score"])]] if scored else []
    first = layers[0][:FINALISTS]
    others = [t for layer in layers for t in layer][len(first) :]
    return [first, *(others[i : i + FINALISTS] for i in range(0, len(others), FINALISTS))][:ROUNDS]


def title_of(trial: TrialResult) -> str:
    """As in "trial 3: prune + quantize-dynamic"."""
    steps = [step.name() for step in chain_of(trial.parameters)]
    return f"trial {trial.number}: {' + '.join([s for s in steps if s != EXPORT] or steps)}"
