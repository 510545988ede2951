"""Extractive answers, as transformers' run_qa.py gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from optkit.benchmarking.reference.base import Outputs, Row
from optkit.benchmarking.reference.windowed import Windowed

if TYPE_CHECKING:
    from optkit.core.reading import Json
    from optkit.tasks.labelled import Input


class QuestionAnswering(Windowed):
    """As transformers' run_qa.py: windows over the context, the best start and end of at most 30 tokens.

    With `null_score_diff_threshold` in config.json, its `version_2_with_negative`: no answer where the logits
    of the first token, least over the windows, are above those of the best span by more than that.
    """

    auto = "AutoModelForQuestionAnswering"
    longest, best = 30, 20

    @property
    def threshold(self) -> float | None:
        return getattr(self.model.config, "null_score_diff_threshold", None)

    def rows(self, inputs: Sequence[Input]) -> list[Row]:
        questions, contexts = ([item[column] for item in inputs] for column in (0, 1))
        return self.windows(questions, contexts, truncation="only_second")

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        answered = self.forward(rows, alone)
        names = ("start_logits", "end_logits", "offsets", "window")
        parts: list[dict[str, list[np.ndarray]]] = [{name: [] for name in names} for _ in inputs]
        counts = [0] * len(inputs)
        for window, example in enumerate(self.owner):
            places = [i for i, s in enumerate(self.encoding.sequence_ids(window)) if s == 1]
            offsets = [self.encoding[window].offsets[i] for i in places]
            if self.threshold is not None:
                places, offsets = [0, *places], [(-1, -1), *offsets]
            part = parts[example]
            part["start_logits"].append(answered[window]["start_logits"][places])
            part["end_logits"].append(answered[window]["end_logits"][places])
            part["offsets"].append(np.array(offsets, dtype=np.int64).reshape(-1))
            part["window"].append(np.full(len(places), counts[example], dtype=np.int64))
            counts[example] += 1
        outputs = {name: [np.concatenate(part[name]) for part in parts] for name in names}
        outputs["offsets"] = [o.reshape(-1, 2) for o in outputs["offsets"]]
        characters = [np.array([ord(c) for c in context], dtype=np.int64) for _, context in inputs]
        return {**outputs, "characters": characters}

    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> Sequence[Json]:
        spans = []
        for i, (_, context) in enumerate(inputs):
            start, end, window = (outputs[n][i] for n in ("start_logits", "end_logits", "window"))
            offsets, top, text = outputs["offsets"][i].reshape(-1, 2), -np.inf, ""
            null = np.inf
            for number in sorted(set(window.tolist())):
                here = np.flatnonzero(window == number)
                if self.threshold is not None:
                    null, here = min(null, float(start[here[0]] + end[here[0]])), here[1:]
                for s in here[np.argsort(-start[here], kind="stable")[: self.best]]:
                    for e in here[(here >= s) & (here < s + self.longest)]:
                        if start[s] + end[e] > top:
                            top, text = start[s] + end[e], context[offsets[s][0] : offsets[e][1]].strip()
            none = self.threshold is not None and null - float(top) > self.threshold
            spans.append("" if none else text)
        return spans


REFERENCE = QuestionAnswering
