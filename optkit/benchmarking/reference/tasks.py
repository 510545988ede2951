"""Each task as the users of transformers and sentence-transformers run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from optkit.benchmarking.reference.base import BATCH, Outputs, Reference, Row, TextReference


class TextClassification(TextReference):
    auto = "AutoModelForSequenceClassification"

    def rows(self, inputs: Sequence[Any]) -> list[Row]:
        pairs = bool(inputs) and not isinstance(inputs[0], str)
        texts = ([a for a, _ in inputs], [b for _, b in inputs]) if pairs else (list(inputs),)
        return split(self.tokenizer(*texts, truncation=True, max_length=self.limit))

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        return {"logits": [found["logits"] for found in self.forward(rows, alone)]}

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Any]:
        """As TextClassificationPipeline: sigmoid for several labels, the largest for one, else the number."""
        config = self.model.config
        problem = config.problem_type
        if problem == "regression" or (problem is None and config.num_labels == 1):
            return [float(row[0]) if len(row) == 1 else row.tolist() for row in outputs["logits"]]
        if problem == "multi_label_classification":
            return [
                (1 / (1 + np.exp(-row.astype(np.float64))) > 0.5).astype(int).tolist()
                for row in outputs["logits"]
            ]
        return [int(np.argmax(row)) for row in outputs["logits"]]


class Windowed(TextReference):
    """Texts that are too long are cut into windows that share a quarter of their tokens."""

    def windows(self, *texts: list[Any], **how: Any) -> list[Row]:
        """A row per window; `found` is what the tokenizer gave, `owner` the text of each window."""
        length = self.limit or 512
        self.encoding = self.tokenizer(
            *texts, max_length=length, stride=length // 4, return_overflowing_tokens=True, **how
        )
        self.owner = self.encoding.pop("overflow_to_sample_mapping")
        return split(self.encoding)


class TokenClassification(Windowed):
    """Words are tagged by their first subword, as transformers' run_ner.py does it, by `word_ids`.

    A word is answered in the window in which it is farthest from both ends.
    """

    auto = "AutoModelForTokenClassification"

    def rows(self, inputs: Sequence[Any]) -> list[Row]:
        words = not isinstance(inputs[0], str)
        return self.windows(list(inputs), is_split_into_words=words, truncation=True)

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Any], alone: bool = False) -> Outputs:
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

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Any]:
        names = self.model.config.id2label
        outside = "O" if "O" in names.values() else names[0]
        found = []
        for item, logits, words in zip(inputs, outputs["logits"], outputs["words"]):
            tags = [outside] * len(item)
            for word, row in zip(words, logits):
                tags[int(word)] = names[int(np.argmax(row))]
            found.append(tags)
        return found


class QuestionAnswering(Windowed):
    """As transformers' run_qa.py: windows over the context, the best start and end of at most 30 tokens."""

    auto = "AutoModelForQuestionAnswering"
    longest, best = 30, 20

    def rows(self, inputs: Sequence[Any]) -> list[Row]:
        questions, contexts = ([item[place] for item in inputs] for place in (0, 1))
        return self.windows(questions, contexts, truncation="only_second")

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        answered = self.forward(rows, alone)
        names = ("start_logits", "end_logits", "offsets", "window")
        parts: list[dict[str, list[np.ndarray]]] = [{name: [] for name in names} for _ in inputs]
        counts = [0] * len(inputs)
        for window, example in enumerate(self.owner):
            places = [i for i, s in enumerate(self.encoding.sequence_ids(window)) if s == 1]
            offsets = [self.encoding[window].offsets[i] for i in places]
            mine = parts[example]
            mine["start_logits"].append(answered[window]["start_logits"][places])
            mine["end_logits"].append(answered[window]["end_logits"][places])
            mine["offsets"].append(np.array(offsets, dtype=np.int64).reshape(-1))
            mine["window"].append(np.full(len(places), counts[example], dtype=np.int64))
            counts[example] += 1
        outputs = {name: [np.concatenate(part[name]) for part in parts] for name in names}
        outputs["offsets"] = [o.reshape(-1, 2) for o in outputs["offsets"]]
        characters = [np.array([ord(c) for c in context], dtype=np.int64) for _, context in inputs]
        return {**outputs, "characters": characters}

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Any]:
        found = []
        for i, (_, context) in enumerate(inputs):
            start, end, window = (outputs[n][i] for n in ("start_logits", "end_logits", "window"))
            offsets, top, text = outputs["offsets"][i].reshape(-1, 2), -np.inf, ""
            for number in sorted(set(window.tolist())):
                here = np.flatnonzero(window == number)
                for s in here[np.argsort(-start[here], kind="stable")[: self.best]]:
                    for e in here[(here >= s) & (here < s + self.longest)]:
                        if start[s] + end[e] > top:
                            top, text = start[s] + end[e], context[offsets[s][0] : offsets[e][1]].strip()
            found.append(text)
        return found


class CausalLM(TextReference):
    """Perplexity as transformers documents it, with a window that moves by three quarters of itself.

    A document ends with the end-of-text token, and every token but the first is scored once.
    """

    auto = "AutoModelForCausalLM"
    window = 1024

    def rows(self, inputs: Sequence[Any]) -> list[Row]:
        length = min(self.limit or 512, self.window)
        stride = max(1, length - length // 4)
        rows: list[Row] = []
        self.owner, self.first = list[int](), list[int]()
        for example, ids in enumerate(self._documents(inputs)):
            done, start = 1, 0
            while True:
                part = ids[start : start + length]
                rows.append({"input_ids": part, "attention_mask": [1] * len(part)})
                self.owner.append(example)
                self.first.append(done - start)
                done = start + len(part)
                if done >= len(ids):
                    break
                start += stride
        return rows

    def provoked(self, inputs: Sequence[Any]) -> list[Row]:
        """The texts as they are: neither cut nor ended."""
        return split(self.tokenizer(list(inputs), return_token_type_ids=False))

    def _documents(self, inputs: Sequence[Any]) -> list[list[int]]:
        ends = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ends = self.model.config.eos_token_id if ends is None else ends
        ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
        found = []
        for ids in self.tokenizer(list(inputs), return_attention_mask=False)["input_ids"]:
            found.append(ids if not ends or (ids and ids[-1] in ends) else [*ids, ends[0]])
        return found

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        import torch

        parts: list[list[np.ndarray]] = [[] for _ in inputs]
        scored: list[np.ndarray] = [np.empty(0)] * len(rows)
        for batch in self._batches([len(row["input_ids"]) for row in rows], 1 if alone else 8):
            length = max(len(rows[i]["input_ids"]) for i in batch)
            ids = torch.zeros((len(batch), length), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for place, i in enumerate(batch):  # on the right: what comes later changes nothing before it
                row = torch.tensor(rows[i]["input_ids"])
                ids[place, : len(row)], mask[place, : len(row)] = row, 1
            with torch.inference_mode():
                logits = self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).logits
                likely = logits[:, :-1].float().log_softmax(-1)
                likely = likely.gather(-1, ids[:, 1:, None].to(self.device)).squeeze(-1).cpu().numpy()
            for place, i in enumerate(batch):
                scored[i] = likely[place, self.first[i] - 1 : len(rows[i]["input_ids"]) - 1]
            self.progress(len(batch))
        for example, values in zip(self.owner, scored):
            parts[example].append(values)
        tokens = [np.array([len(ids)], dtype=np.int64) for ids in self._documents(inputs)]
        return {"log_likelihood": [np.concatenate(p) for p in parts], "tokens": tokens}

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Any]:
        return [[float(row.sum(dtype=np.float64)), len(row)] for row in outputs["log_likelihood"]]


class SentenceModel(Reference):
    """A class of sentence-transformers: its modules, prompt and padding."""

    package = "sentence_transformers"
    #: What it answers with, and optkit's name for it.
    feature: str
    output: str

    def load(self) -> None:
        import sentence_transformers
        import torch

        self.model: Any = getattr(sentence_transformers, self.auto)(
            str(self.folder),
            device=self.device,
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            **self.trusted,
        ).eval()
        self.prompt = self.model.prompts.get(self.model.default_prompt_name or "")

    def rows(self, inputs: Sequence[Any]) -> list[Row]:
        found: list[Row] = []
        for start in range(0, len(inputs), BATCH):
            features = self._features(inputs[start : start + BATCH])
            masks = [m.bool() for m in features["attention_mask"]]
            names = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in features]
            found += [{n: features[n][i][m].tolist() for n in names} for i, m in enumerate(masks)]
        return found

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        import torch

        found: list[np.ndarray] = [np.empty(0)] * len(inputs)
        lengths = [len(row["input_ids"]) for row in rows]
        for part in TextReference._batches(lengths, 1 if alone else BATCH):
            with torch.inference_mode():
                features = {
                    n: v.to(self.device) if torch.is_tensor(v) else v
                    for n, v in self._features([inputs[i] for i in part]).items()
                }
                answer = self.model(features)[self.feature]
            for i, values in zip(part, answer.float().cpu().numpy()):
                found[i] = self.cut(values)
            self.progress(len(part))
        return {self.output: found}

    def cut(self, values: np.ndarray) -> np.ndarray:
        """What `encode` or `predict` leave of what the modules give for one input."""
        return values

    def _features(self, inputs: Sequence[Any]) -> dict[str, Any]:
        return self.model.preprocess(list(inputs), prompt=self.prompt)


class Embeddings(SentenceModel):
    auto, feature, output = "SentenceTransformer", "sentence_embedding", "sentence_embedding"

    def cut(self, values: np.ndarray) -> np.ndarray:
        return values[: self.model.truncate_dim]

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> None:
        return None


class CrossEncoder(SentenceModel):
    """Logits; a score is its activation function of the only one, a label the largest of several."""

    auto, feature, output = "CrossEncoder", "scores", "logits"

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Any]:
        import torch

        scores = self.model.activation_fn(torch.from_numpy(np.stack(outputs["logits"])).double()).numpy()
        return [float(row[0]) if len(row) == 1 else int(np.argmax(row)) for row in scores]


class DeclaredModel(TextReference):
    """Texts as they are, truncated; what is read of the model's outputs is as the task `declared` says."""

    declared: Any

    def rows(self, inputs: Sequence[Any]) -> list[Row]:
        return split(self.tokenizer(list(inputs), truncation=True, max_length=self.limit))

    def outputs(self, rows: Sequence[Row], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        answered = self.forward(rows, alone)
        return {name: [one[name] for one in answered] for name in (answered[0] if answered else ())}

    def scored(self, row: Row, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.declared.plain_outputs(self.tokenizer, row["input_ids"], outputs)

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Any] | None:
        return self.declared.plain_answers(self.tokenizer, outputs)


class ImageClassification(Reference):
    """`AutoImageProcessor` over files as `transformers.image_utils.load_image` opens them."""

    auto = "AutoModelForImageClassification"

    def load(self) -> None:
        from transformers import AutoImageProcessor

        super().load()
        self.processor = AutoImageProcessor.from_pretrained(str(self.folder), **self.trusted)

    @property
    def exact(self) -> bool:
        """Whether it resizes with Pillow, as optkit does; torchvision rounds otherwise."""
        return getattr(self.processor, "backend", "pil") == "pil"

    def rows(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        """`pixel_values` of each file, (channels, height, width)."""
        return [self.pixels(file) for file in inputs]

    def pixels(self, file: str) -> np.ndarray:
        from PIL import Image, ImageOps
        from transformers.image_utils import load_image

        grey = getattr(self.model.config, "num_channels", 3) == 1
        image = ImageOps.exif_transpose(Image.open(file)).convert("L") if grey else load_image(file)
        return np.asarray(self.processor(images=image, return_tensors="np")["pixel_values"][0])

    def outputs(self, rows: Sequence[Any], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        import torch

        found: list[np.ndarray] = []
        size = 1 if alone else BATCH
        for start in range(0, len(rows), size):
            pixels = torch.from_numpy(np.stack(rows[start : start + size])).to(self.device)
            with torch.inference_mode():
                found += list(self.model(pixel_values=pixels).logits.float().cpu().numpy())
            self.progress(len(found))
        return {"logits": found}

    answers = TextClassification.answers


#: `Task.reference` → how a user of the libraries runs it.
KINDS: dict[str, type[Reference]] = {
    "causal-lm": CausalLM,
    "cross-encoder": CrossEncoder,
    "embeddings": Embeddings,
    "image-classification": ImageClassification,
    "question-answering": QuestionAnswering,
    "text-classification": TextClassification,
    "token-classification": TokenClassification,
}


def reference_of(task: Any) -> type[Reference] | None:
    """How a user of the libraries runs the models of `task`; None where nobody says it.

    A task without a class here declares it: its Auto class, and `plain_outputs`, `plain_answers`.
    """
    if task.reference in KINDS:
        return KINDS[task.reference]
    if not task.has_plain_outputs:
        return None

    class Declared(DeclaredModel):
        auto, declared = task.auto_class, task

    return Declared


def split(found: Any) -> list[Row]:
    """The rows of a `BatchEncoding` that is not padded."""
    names = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in found]
    return [{name: found[name][i] for name in names} for i in range(len(found["input_ids"]))]
