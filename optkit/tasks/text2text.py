"""Text to text: translation, summaries, titles, by a model with an encoder and a decoder (T5, BART, Marian).

A row of data is a source and a target. `predict` writes a text for each source as the checkpoint's
generation_config.json says; scores compare these texts with the targets. Fine-tuning shows the model the
targets (teacher forcing) and keeps the epoch that finds those of validation likeliest.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.core.reading import read_json
from optkit.data.columns import texts_of
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, DataError, RecipeError, did_you_mean
from optkit.models.text import TextEncoder
from optkit.runtimes.base import Session, infer_all
from optkit.runtimes.search import greedy
from optkit.runtimes.seq2seq import NONE, SEQUENCES, Seq2SeqSession, ended
from optkit.tasks import text_metrics
from optkit.tasks.base import Columns, Field, Labelled, Outputs
from optkit.tasks.labelled import Answer, Input
from optkit.tasks.teacher_forcing import TeacherForced

if TYPE_CHECKING:
    import datasets


#: Kinds of models that were tried: written texts are those of `generate` (tests/runtimes/test_search.py).
_KINDS = ("t5", "mt5", "bart", "mbart", "pegasus", "marian", "m2m_100")
#: Kinds of models that translate, which are scored by BLEU unless another metric is asked for.
_TRANSLATE = ("marian", "m2m_100", "mbart")
_HINT = "Each side in a column of its own, named with --text-column and --label-column."
#: Tokens that a batch may have, sources and padding counted.
_TOKENS = 4096


@dataclass(frozen=True)
class Written:
    """`text` for a source of `prompt_tokens` tokens: `tokens` of its own, the end among them; `finished`:
    the model ended it ("end"), or the limit did ("length")."""

    text: str
    tokens: int
    finished: str
    prompt_tokens: int = 0


@dataclass
class Text2Text(TeacherForced):
    """`prefix` (config.json) stands before every source, as T5 was trained with one for each task."""

    name: ClassVar[str] = "text2text"
    architectures: ClassVar[tuple[str, ...]] = ("ForConditionalGeneration", "MarianMTModel")
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    generates: ClassVar[bool] = True
    predicts_tokens: ClassVar[bool] = True
    columns: ClassVar = {
        "text": ("source", "document", "article", "dialogue", "text", "input", "context"),
        "label": ("target", "summary", "highlights", "title", "translation", "output"),
    }
    parts: ClassVar = {"text": "source", "pair": "second text", "label": "target"}
    metrics: ClassVar = text_metrics.METRICS
    sameness: ClassVar[str] = "the same text"
    metric: str
    encoder: TextEncoder
    prefix: str = ""
    clean_up: bool = False
    folder: Path = Path()

    @classmethod
    def check_architecture(cls, config: dict[str, Any], architecture: str) -> None:
        """Raise CheckpointError for one that is not known to write what transformers' own would."""
        if config.get("model_type") not in _KINDS:
            raise CheckpointError(
                f"{architecture} ({config.get('model_type')!r}) is none of the models that write a "
                f"text from a text here: {', '.join(_KINDS)}.",
                hint="Take one of these; a decoder alone is for causal-lm.",
            )

    @classmethod
    def from_artifact(cls, artifact: Artifact, metric: str | None = None) -> Text2Text:
        config = artifact.config
        if metric is None and config.get("model_type") in _TRANSLATE:
            metric = "bleu"
        encoder = TextEncoder(artifact.path)
        file = artifact.path / "tokenizer_config.json"
        clean = bool(file.exists() and read_json(file, CheckpointError).get("clean_up_tokenization_spaces"))
        return cls(
            metric=cls.checked_metric(metric),
            encoder=encoder,
            prefix=str(config.get("prefix") or ""),
            clean_up=clean and not encoder.is_bpe,
            folder=artifact.path,
        )

    @property
    def prompt(self) -> str:
        return self.prefix

    def encode(self, inputs: Sequence[Input]) -> EncodedSet:
        for i, item in enumerate(inputs):
            if not isinstance(item, str):
                raise DataError(f"Expected a text at position {i}, received {type(item).__name__}.")
        encoded = self.encoder.encode([self.prefix + item for item in inputs])
        arrays = {name: encoded.arrays[name] for name in ("input_ids", "attention_mask")}
        return EncodedSet(arrays, encoded.pad, encoded.truncated)

    def read(self, rows: datasets.Dataset, columns: Columns) -> Labelled:
        """Every row. Raises DataError where a side is missing, both lie in one column, or the metric sees no
        word of a target; MissingDependency."""
        names = self._columns(rows, columns)
        sources, targets = (texts_of(rows, name, _HINT) for name in names)
        text_metrics.check(self.metric, targets)
        return Labelled(
            self.encode(sources), targets, sources, sources, columns=Columns(names[0], None, names[1])
        )

    @classmethod
    def _columns(cls, rows: datasets.Dataset, columns: Columns) -> tuple[str, str]:
        for name in rows.column_names:
            wanted = name in (columns.text, columns.label) or columns == Columns()
            if name == "translation" and wanted and len(rows) and isinstance(rows[0][name], dict):
                raise DataError(
                    f"Expected texts in columns, received both sides in the column {name!r}, by language "
                    f"({', '.join(map(str, rows[0][name]))}).",
                    hint=_HINT,
                )
        source = cls.column(rows.column_names, "text", columns)
        return source, cls.column(rows.column_names, "label", columns)

    def decode(self, outputs: Outputs) -> list[Written]:
        return [self._written(row, 0) for row in outputs[SEQUENCES]]

    def answers(self, outputs: Outputs) -> np.ndarray:
        """The texts, (examples,); of training the log-probabilities and their number, (examples, 2)."""
        if (likelihoods := self.likelihoods(outputs)) is not None:
            return likelihoods
        texts = np.empty(len(outputs[SEQUENCES]), dtype=object)
        texts[:] = [self._text(row) for row in outputs[SEQUENCES]]
        return texts

    def score(self, answers: np.ndarray, references: Sequence[Answer]) -> float:
        return text_metrics.score(self.metric, list(answers), list(references))

    def complete(
        self, session: Session, prompts: Sequence[Input], batch_size: int, **options: float | None
    ) -> list[Written]:
        """The text for each source; of the `options` `max_new_tokens` alone changes anything."""
        if not len(prompts):
            return []
        encoded, most = self._whole(prompts), _most(options)
        if most is None:
            rows = infer_all(session, encoded, batch_size, _TOKENS)[SEQUENCES]
        else:
            session = _of_two(session)
            settings = session.settings.with_new_tokens(most)
            rows = [np.empty(0)] * len(encoded)
            for part in encoded.batches(batch_size, _TOKENS):
                written = ended(session.write(encoded.batch(part), settings), settings)
                for i, row in zip(part, written):
                    rows[i] = row
        return [self._written(row, int(n)) for row, n in zip(rows, encoded.lengths)]

    def generate(
        self, session: Session, prompt: Input, **options: float | None
    ) -> Generator[str, None, Written]:
        """Greedy texts come token by token; of beams no word is certain before the end: they come whole."""
        session = _of_two(session)
        encoded, most = self._whole([prompt]), _most(options)
        settings = session.settings if most is None else session.settings.with_new_tokens(most)
        feeds, tokens, given = encoded.batch([0]), list[int](), ""
        if settings.num_beams == 1:
            for (token,) in greedy(session.writer(feeds), 1, settings):
                tokens.append(int(token))
                text = self._text(np.array(tokens))
                # What may still change is kept back: half a character, spaces that are cleaned up.
                if text.startswith(given) and not text.endswith("\N{REPLACEMENT CHARACTER}"):
                    certain = text if not self.clean_up else text[: max(len(given), len(text) - 4)]
                    if piece := certain[len(given) :]:
                        given += piece
                        yield piece
        else:
            tokens = session.write(feeds, settings)[0].tolist()
        row = ended(np.array([tokens], dtype=np.int64).reshape(1, -1), settings)[0]
        whole = self._written(row, len(encoded.arrays["input_ids"][0]))
        if rest := whole.text[len(given) :]:
            yield rest
        return whole

    def _whole(self, prompts: Sequence[Input]) -> EncodedSet:
        """The sources, none of which may be cut: nobody would see it in the text. Raises DataError."""
        encoded, limit = self.encode(prompts), self.encoder.max_length
        if encoded.truncated:
            counts = map(len, self.encoder.whole([self.prefix + prompt for prompt in prompts]))
            place, count = next((i, n) for i, n in enumerate(counts) if n > limit)
            raise DataError(
                f"Expected a source of at most {limit:,} tokens at position {place}, received {count:,}.",
                hint="Shorten it, or ask for one part after the other.",
            )
        return encoded

    def gives(self) -> tuple[Field, ...]:
        return Field("text"), Field("tokens", "INT32"), Field("finished")

    def fields(self, answer: Written) -> tuple[Any, ...]:
        return answer.text, answer.tokens, answer.finished

    def describe(self, answer: Written) -> dict[str, Any]:
        return {"text": answer.text, "tokens": answer.tokens, "finished": answer.finished}

    def line(self, answer: Written) -> str:
        return answer.text.replace("\n", "\\n")

    @classmethod
    def fits(cls, rows: datasets.Dataset, columns: Columns) -> bool:
        """A source and a column whose name says that it is a text to write."""
        names, sure = rows.column_names, ("target", "summary", "highlights")
        target = columns.label or next((name for name in sure if name in names), None)
        source = columns.text or next((name for name in cls.columns["text"] if name in names), None)
        if target not in sure or target not in names or source not in names or columns.pair is not None:
            return False
        values = rows[:20][target]
        return all(isinstance(value, str) for value in values) and any(" " in value for value in values)

    @classmethod
    def training_config(cls, rows: datasets.Dataset, columns: Columns) -> dict[str, Any]:
        cls._columns(rows, columns)
        return {}

    @classmethod
    def for_training(cls, source: Artifact, config: dict[str, Any], max_length: int | None) -> Text2Text:
        task = cls.from_artifact(source)
        task.encoder.truncate(max_length)
        task.metric = text_metrics.TRAINED_BY
        return task

    def targets(self, labelled: Labelled) -> dict[str, list[np.ndarray]]:
        """The tokens of each target, as transformers' tokenizer writes a target of this model."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)
        encoded = tokenizer(
            text_target=[str(text) for text in labelled.references],
            truncation=True,
            max_length=self.encoder.max_length,
        )
        return {"labels": [np.array(row, dtype=np.int64) for row in encoded["input_ids"]]}

    def _written(self, row: np.ndarray, read: int) -> Written:
        tokens = row[row != NONE]
        return Written(self._text(row), len(tokens), "end" if NONE in row else "length", read)

    def _text(self, row: np.ndarray) -> str:
        text = self.encoder.text(row[row != NONE].tolist())
        return text_metrics.cleaned(text) if self.clean_up else text


def _of_two(session: Session) -> Seq2SeqSession:
    if not isinstance(session, Seq2SeqSession):
        raise RecipeError("Expected a session of an encoder and a decoder.")
    return session


def _most(options: Mapping[str, float | None]) -> int | None:
    """RecipeError for options that would change how a text is searched for, and for unknown ones."""
    unchanged = {"temperature": 0, "top_k": None, "top_p": 1, "seed": options.get("seed")}
    for name, value in options.items():
        if name not in (*unchanged, "max_new_tokens"):
            raise RecipeError(f"Unknown option {name!r} of text2text.", hint=did_you_mean(name, unchanged))
        if name in unchanged and value != unchanged[name]:
            raise RecipeError(
                f"Expected no {name}, received {value}: texts are found as generation_config.json says, "
                "not drawn.",
                hint="Leave it out, or give temperature 0.",
            )
    most = options.get("max_new_tokens")
    return None if most is None else int(most)


TASK = Text2Text
