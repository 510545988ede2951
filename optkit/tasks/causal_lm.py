"""Causal language modelling: what comes next? Scored by perplexity; `predict` continues a prompt, or a chat.

A row of data is a document: its text, and the end-of-text token where the model has one. Documents
longer than the model are read in windows that overlap, and every token is scored once, in the window
in which it has seen the most before it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.files import read_json
from optkit.data.columns import texts_of
from optkit.data.examples import EncodedSet, Windows
from optkit.errors import CheckpointError, DataError, RecipeError, did_you_mean
from optkit.models.chat import ChatTemplate, is_chat
from optkit.models.task import Shape
from optkit.models.text import TextEncoder
from optkit.runtimes.base import Session, Setting
from optkit.runtimes.generation import Generation, generate
from optkit.runtimes.token_logprobs import NONE, OUTPUT, TARGETS
from optkit.tasks.base import Columns, Field, Labelled, Outputs, Task
from optkit.tasks.labelled import Answer, Input
from optkit.tasks.stop_sequences import StopSequences, checked

if TYPE_CHECKING:
    import datasets
    import torch


#: Longest window that texts are scored in; models whose limit is larger gain little beyond it.
WINDOW = 1024


@dataclass(frozen=True)
class Completion:
    """`text` that follows the prompt, of `tokens` tokens; `finished`: the model or a stop sequence, which is
    no part of it, ended it ("end"), or the limit did ("length"). The prompt had `prompt_tokens`."""

    text: str
    tokens: int
    finished: str
    prompt_tokens: int = 0


@dataclass(frozen=True)
class Likelihood:
    """How likely a text is: `log_likelihood` in nats over `tokens` predicted tokens."""

    log_likelihood: float
    tokens: int

    @property
    def perplexity(self) -> float:
        return float(np.exp(-self.log_likelihood / self.tokens)) if self.tokens else float("nan")


@dataclass
class CausalLM(Task):
    """`metric` is neg_perplexity: the perplexity, negated, as scores grow with quality everywhere here.

    `ends` are the tokens that end a text, `start` is what an empty prompt begins with (None: nothing). A
    prompt is a text, or a list of messages, which `chat` writes as one (None: the model has no template).
    """

    name: ClassVar[str] = "causal-lm"
    architectures: ClassVar[tuple[str, ...]] = ("ForCausalLM", "LMHeadModel")
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    generates: ClassVar[bool] = True
    predicts_tokens: ClassVar[bool] = True
    columns: ClassVar = {"text": ("text", "content", "document", "sentence", "review")}
    metrics: ClassVar = ("neg_perplexity",)
    metric: str
    encoder: TextEncoder
    ends: tuple[int, ...] = ()
    start: int | None = None
    chat: ChatTemplate | None = None

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> CausalLM:
        metric = cls.checked_metric(metric)
        file = artifact.path / "generation_config.json"
        config = artifact.config | (read_json(file, CheckpointError) if file.exists() else {})
        ends = config.get("eos_token_id")
        ends = tuple(ends) if isinstance(ends, list) else () if ends is None else (int(ends),)
        start = config.get("bos_token_id")
        start = start if isinstance(start, int) else next(iter(ends), None)
        task = cls(metric, TextEncoder(artifact.path), ends, start)
        stated = task.encoder.tokenization
        if stated.chat_template is not None:
            task.chat = ChatTemplate(stated.chat_template, stated.special_tokens)
        return task

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        """Texts, to be scored: without an end that is not in them."""
        return self._windows(self._tokens(inputs))

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        """Every row as a document. Rows with nothing to predict (an empty text) are left out and counted.

        Raises DataError where no row is left.
        """
        name = self.column(rows.column_names, "text", columns)
        texts = texts_of(rows, name, "Name the right column with --text-column.")
        documents = [self._ended(ids) if text else [] for text, ids in zip(texts, self.encoder.whole(texts))]
        scored = [i for i, ids in enumerate(documents) if len(ids) > 1]
        if not scored:
            raise DataError(f"Expected texts in column {name!r}, received {len(texts)} empty ones.")
        encoded = self._windows([documents[i] for i in scored])
        texts = [texts[i] for i in scored]
        counts = [len(documents[i]) - 1 for i in scored]
        skipped = len(documents) - len(scored)
        return Labelled(encoded, counts, texts, texts, skipped, Columns(name))

    def decode(self, outputs: Outputs) -> list[Likelihood]:
        return [Likelihood(float(total), int(count)) for total, count in self.answers(outputs)]

    def answers(self, outputs: Outputs) -> np.ndarray:
        """(examples, 2) float64: the log-likelihood of each text, and of how many tokens."""
        rows = outputs[OUTPUT]
        return np.array([[row.sum(dtype=np.float64), len(row)] for row in rows]).reshape(-1, 2)

    def score(self, answers: np.ndarray, references: Sequence[Answer]) -> float:
        """Every token counts alike, in whatever text it stands."""
        total, count = answers.sum(axis=0)
        return -float(np.exp(-total / count)) if count else float("nan")

    sameness: ClassVar[str] = "a perplexity of the text within 5%"

    def probes(self, texts: Sequence[str]) -> list[Input]:
        """Without the shortest, in which there may be nothing to predict."""
        return [text for text in texts if len(text.split()) > 1 or len(text) > 12]

    def same(self, outputs: Outputs, others: Outputs) -> np.ndarray:
        ours, theirs = self.answers(outputs), self.answers(others)
        return np.abs(ours[:, 0] - theirs[:, 0]) / np.maximum(ours[:, 1], 1) <= np.log(1.05)

    def agreement(self, answers: np.ndarray, others: np.ndarray) -> float:
        """The mean ratio, below 1, of the two models' perplexities of a text."""
        counts = np.maximum(answers[:, 1], 1)
        apart = np.abs(answers[:, 0] - others[:, 0]) / counts
        return float(np.exp(-apart).mean()) if len(apart) else 1.0

    def complete(
        self, session: Session, prompts: Sequence[Input], batch_size: int, **options: Setting
    ) -> list[Completion]:
        """What follows each prompt; `options` are fields of `optkit.runtimes.generation.Generation`, and
        `stop`: sequences before which a text ends."""
        settings, stops = _settings(options)
        tokens = self._prompts(prompts)
        completions = []
        for first in range(0, len(tokens), batch_size):
            part = tokens[first : first + batch_size]
            writing = [_Writing(self, prompt, stops, in_pieces=bool(stops)) for prompt in part]
            for step in self._steps(session, part, settings, first):
                for text, token in zip(writing, step):
                    text.add(token)
                if all(text.stopped for text in writing):
                    break
            completions += [text.completion()[1] for text in writing]
        return completions

    def generate(
        self, session: Session, prompt: Input, **options: Setting
    ) -> Generator[str, None, Completion]:
        settings, stops = _settings(options)
        writing = _Writing(self, self._prompts([prompt])[0], stops, in_pieces=True)
        for (token,) in self._steps(session, [writing.prompt], settings, 0):
            if piece := writing.add(token):
                yield piece
            if writing.stopped:
                break
        rest, whole = writing.completion()
        if rest:  # bytes that are no whole character, or what might have been a stop sequence
            yield rest
        return whole

    def gives(self) -> tuple[Field, ...]:
        return Field("text"), Field("tokens", "INT32"), Field("finished")

    def fields(self, answer: Completion) -> tuple[Any, ...]:
        return answer.text, answer.tokens, answer.finished

    def describe(self, answer: Answer) -> dict[str, Any]:
        if isinstance(answer, Likelihood):
            return {**super().describe(answer), "perplexity": answer.perplexity}
        return {"completion": answer.text, "tokens": answer.tokens, "finished": answer.finished}

    def line(self, answer: Answer) -> str:
        if isinstance(answer, Likelihood):
            return f"perplexity {answer.perplexity:.4f}"
        return answer.text.replace("\n", "\\n")

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        return {"logits": ("batch", "sequence", model.config.vocab_size)}

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        """Texts and nothing beside them, which might be a label under any name."""
        known = [columns.text] if columns.text else cls.columns["text"]
        alone = len(rows.column_names) == 1 and rows.column_names[0] in known
        return alone and columns.label is None and columns.pair is None

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        cls.column(rows.column_names, "text", columns)
        return {}

    @classmethod
    def for_training(cls, source: Artifact, config: dict[str, Any], max_length: int | None) -> CausalLM:
        task = cls.from_artifact(source)
        task.encoder.truncate(max_length)
        return task

    def network(
        self, source: Artifact, config: dict[str, Any], load: Callable[..., torch.nn.Module]
    ) -> torch.nn.Module:
        """Raises CheckpointError for an encoder: it would learn to copy the token that it should predict."""
        network = super().network(source, config, load)
        if _looks_ahead(network):
            raise CheckpointError(
                f"Expected a decoder for causal-lm, received an encoder ({type(network).__name__}): its "
                "tokens see those behind them.",
                hint="Give a decoder such as GPT-2; to classify texts, name the label with --label-column.",
            )
        return network

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        """The tokens themselves, which the model shifts by one; a token of two windows is learned once."""
        return {"labels": [np.roll(row, 1) for row in labelled.encoded.arrays[TARGETS]]}

    def reduced(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, vocabulary) → log-likelihood of the token behind each, (batch, tokens)."""
        import torch

        logits = logits[0] if isinstance(logits, tuple) else logits
        behind = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=NONE)
        flat = torch.nn.functional.cross_entropy(
            logits.float().transpose(1, 2), behind, ignore_index=NONE, reduction="none"
        )
        return -flat

    def reduced_outputs(self, network: torch.nn.Module) -> dict[str, Shape]:
        return {OUTPUT: ("batch", "sequence")}

    def _steps(
        self, session: Session, prompts: list[list[int]], settings: Generation, first: int
    ) -> Iterator[list[int | None]]:
        return generate(
            session.decoder(),
            prompts,
            settings,
            frozenset(self.ends),
            self.encoder.max_length,
            self.encoder.pad_id,
            first,
        )

    def _tokens(self, inputs: Sequence[Input], places: Sequence[int] | None = None) -> list[list[int]]:
        """The ids of texts, which stand at `places` of what was given."""
        places = range(len(inputs)) if places is None else places
        for i, item in zip(places, inputs):
            if not isinstance(item, str):
                raise DataError(f"Expected a text at position {i}, received {type(item).__name__}.")
        tokens = self.encoder.whole(inputs)
        for i, ids in zip(places, tokens):
            if not ids and self.start is not None:
                ids.append(self.start)
            if not ids:
                raise DataError(
                    f"Expected a text at position {i}, received an empty one, and the model has no token to "
                    "begin with."
                )
        return tokens

    def _prompts(self, inputs: Sequence[Input]) -> list[list[int]]:
        """Without the end that some tokenizers put behind every text; chats as their template has them."""
        chats = [i for i, item in enumerate(inputs) if is_chat(item)]
        if chats and self.chat is None:
            raise DataError(
                f"Expected a text at position {chats[0]}, received messages: the model has no chat template.",
                hint="Write the prompt as a text: /v1/completions over HTTP.",
            )
        rendered = [self.chat.render(inputs[i], i) for i in chats] if self.chat else []
        written = dict(zip(chats, self.encoder.whole(rendered, special=False)))
        others = [i for i in range(len(inputs)) if i not in written]
        texts = iter(self._tokens([inputs[i] for i in others], others))
        prompts = []
        for i in range(len(inputs)):
            ids = written[i] if i in written else next(texts)
            ended = i not in written and len(ids) > 1 and ids[-1] in self.ends
            prompts.append(ids[:-1] if ended else ids)
        return prompts

    def _ended(self, ids: list[int]) -> list[int]:
        return ids if not self.ends or (ids and ids[-1] in self.ends) else [*ids, self.ends[0]]

    def _windows(self, documents: Sequence[Sequence[int]]) -> EncodedSet:
        """`targets[p]` is the token that position p should predict, where that is scored in this window."""
        length = min(self.encoder.max_length, WINDOW)
        stride = max(1, length - length // 4)
        ids: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        owner: list[int] = []
        for example, document in enumerate(documents):
            tokens = np.array(document, dtype=np.int64)
            seen = 1  # tokens done with: scored, or the first one, which nothing predicts
            for start in range(0, max(1, len(tokens) - length + stride), stride):
                window = tokens[start : start + length]
                wanted = np.full(len(window), NONE, dtype=np.int64)
                wanted[seen - start - 1 : -1] = window[seen - start :]
                seen = start + len(window)
                ids.append(window)
                targets.append(wanted)
                owner.append(example)
        arrays = {"input_ids": ids, "attention_mask": [np.ones_like(row) for row in ids], TARGETS: targets}
        windows = Windows(
            np.array(owner, dtype=np.int64),
            [np.flatnonzero(row != NONE) for row in targets],
            {"tokens": [np.array([len(document)]) for document in documents]},
        )
        pad = {"input_ids": self.encoder.pad_id, TARGETS: NONE}
        return EncodedSet(arrays, pad, 0, windows if documents else None)


def _looks_ahead(network: torch.nn.Module) -> bool:
    """Whether what the model says at a token depends on the tokens behind it."""
    import torch

    with torch.no_grad():
        one, other = network.eval()(input_ids=torch.tensor([[1, 2, 3, 4], [1, 2, 5, 6]])).logits[:, 0]
    return not torch.allclose(one, other, rtol=1e-4, atol=1e-5)


class _Writing:
    """The text behind one `prompt`, token by token, up to one of `stops`; `in_pieces` where they are read."""

    def __init__(self, task: CausalLM, prompt: list[int], stops: tuple[str, ...], in_pieces: bool) -> None:
        self.task, self.prompt = task, prompt
        self._new: list[int] = []
        self._decode = task.encoder.stream(prompt) if in_pieces else lambda token: ""
        self._sequences = StopSequences(stops) if stops else None
        self._given = ""

    @property
    def stopped(self) -> bool:
        return self._sequences is not None and self._sequences.ended

    def add(self, token: int | None) -> str:
        """What of the text is certain now that `token` has come."""
        if token is None or self.stopped:
            return ""
        self._new.append(token)
        piece = "" if token in self.task.ends else self._decode(token)
        if self._sequences is not None:
            piece = self._sequences.add(piece)
        self._given += piece
        return piece

    def completion(self) -> tuple[str, Completion]:
        """What of the text was not given yet, and the whole."""
        encoder, new = self.task.encoder, self._new
        # Decoded behind its prompt: some tokenizers drop the space before a first word.
        text = encoder.text([*self.prompt, *new])[len(encoder.text(self.prompt)) :]
        if self.stopped:
            text = self._given
        ended = self.stopped or (bool(new) and new[-1] in self.task.ends)
        whole = Completion(text, len(new), "end" if ended else "length", len(self.prompt))
        return text[len(self._given) :], whole


def _settings(options: dict[str, Setting]) -> tuple[Generation, tuple[str, ...]]:
    """The options, and the stop sequences among them. RecipeError for an option that does not exist."""
    known = {*Generation.__dataclass_fields__, "stop"}
    for name in options:
        if name not in known:
            raise RecipeError(f"Unknown option {name!r} of causal-lm.", hint=did_you_mean(name, known))
    rest = {name: value for name, value in options.items() if name != "stop"}
    return replace(Generation(), **rest), checked(options.get("stop"))


TASK = CausalLM
