"""Taggers of words, as transformers' run_ner.py runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from optkit.benchmarking.reference.base import Outputs, Row
from optkit.benchmarking.reference.windowed import Windowed

if TYPE_CHECKING:
    from optkit.core.reading import Json
    from optkit.tasks.labelled import Input


class TokenClassification(Windowed):
    """Words are tagged by their first subword, as transformers' run_ner.py does it, by `word_ids`.

    A word is answered in the window in which it is farthest from both ends.
    """

    auto = "AutoModelForTokenClassification"

    def rows(self, inputs: Sequence[Input]) -> list[Row]:
        words = not isinstance(inputs[0], str)
        given = self.tokenizer(["film", "film"], is_split_into_words=True)["input_ids"]
        if words and given != self.tokenizer("film film")["input_ids"]:
            self._say(
                "The tokenizer reads words that are given one by one, as this data has them, as if they were "
                "joined (add_prefix_space is not set in tokenizer_config.json): of a model that learned them "
                "as they stand in texts these scores are too low."
            )
        return self.windows(list(inputs), is_split_into_words=words, truncation=True)

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Input], alone: bool = False) -> Outputs:
        answered = self.forward(rows, alone)
        places: list[dict[int, tuple[int, int, int]]] = [{} for _ in inputs]
        for window, example in enumerate(self.owner):
            ids, seen = self.encoding.word_ids(window), set()
            for position, word in enumerate(ids):
                if word is None or word in seen:
                    continue
                seen.add(word)
                margin = min(position, len(ids) - 1 - position)
                begun = (
                    window == 0 or self.owner[window - 1] != example or not self._continues(window, position)
                )
                if begun and (word not in places[example] or margin > places[example][word][0]):
                    places[example][word] = (margin, window, position)
        logits, words = [], []
        for chosen in places:
            order = sorted(chosen, key=lambda word: (chosen[word][1], chosen[word][2]))
            rows_of = [answered[chosen[w][1]]["logits"][chosen[w][2]] for w in order]
            logits.append(np.stack(rows_of) if rows_of else np.empty((0, self.model.config.num_labels)))
            words.append(np.array(order, dtype=np.int64))
        ends = [np.cumsum([len(w) + 1 for w in item]).astype(np.int64) for item in inputs]
        spans = [
            np.stack([e - 1 - [len(w) for w in item], e - 1], 1) if len(item) else e
            for e, item in zip(ends, inputs)
        ]
        characters = [np.array([ord(c) for c in " ".join(item)], dtype=np.int64) for item in inputs]
        flat = [np.asarray(s, dtype=np.int64).reshape(-1) for s in spans]
        return {"logits": logits, "words": words, "spans": flat, "characters": characters}

    def _continues(self, window: int, position: int) -> bool:
        """Whether this window begins inside the word at `position`: it is the first one here."""
        ids = self.encoding.word_ids(window)
        first = next((i for i, word in enumerate(ids) if word is not None), None)
        if position != first:
            return False
        start = self.encoding[window].offsets[position][0]
        before = [
            self.encoding[window - 1].offsets[i][0]
            for i, word in enumerate(self.encoding.word_ids(window - 1))
            if word == ids[position]
        ]
        return bool(before) and min(before) < start

    def answers(self, outputs: Outputs, inputs: Sequence[Input]) -> Sequence[Json]:
        names = self.model.config.id2label
        outside = "O" if "O" in names.values() else names[0]
        tagged = []
        for item, logits, words in zip(inputs, outputs["logits"], outputs["words"]):
            tags = [outside] * len(item)
            for word, row in zip(words, logits):
                tags[int(word)] = names[int(np.argmax(row))]
            tagged.append(tags)
        return tagged


REFERENCE = TokenClassification
