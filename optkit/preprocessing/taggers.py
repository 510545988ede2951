"""Part-of-speech taggers: jieba for Chinese, a spaCy pipeline, or any token-classification checkpoint.

A `Tagger` takes texts, or lists of words, and gives words with a tag each. `digest` stands for all that
decides what it answers: preprocessing that was begun with another tagger does not go on from there.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

from optkit.errors import CheckpointError, MissingDependency
from optkit.preprocessing import segment

#: Words with their tags.
Tagged = tuple[list[str], list[str]]
SPACY = "spacy:"


class Tagger(ABC):
    digest: str

    @abstractmethod
    def __call__(self, items: Sequence[str | list[str]]) -> list[Tagged]:
        """A result per item, in order; a list of words keeps its words."""


@lru_cache(maxsize=2)
def open_tagger(name: str) -> Tagger:
    """`jieba`, `spacy:PIPELINE`, or the folder (or hub name) of a token-classification checkpoint."""
    if name == "jieba":
        return _Jieba()
    return _Spacy(name.removeprefix(SPACY)) if name.startswith(SPACY) else _Checkpoint(name)


class _Jieba(Tagger):
    digest = "jieba"

    def __call__(self, items: Sequence[str | list[str]]) -> list[Tagged]:
        return [segment.tagged(item) if isinstance(item, str) else _each(item) for item in items]


def _each(words: list[str]) -> Tagged:
    """Given words keep their borders: each gets the tag of its first part."""
    return words, [next(iter(segment.tagged(word)[1]), "x") for word in words]


class _Spacy(Tagger):
    """A pipeline's universal tags (`pos`), or its own (`tag`) where it has no others."""

    def __init__(self, pipeline: str) -> None:
        try:
            import spacy
        except ImportError as reason:
            raise MissingDependency.of("spacy", "spacy") from reason
        try:
            self._pipeline = spacy.load(pipeline, exclude=["ner", "parser", "lemmatizer"])
        except OSError as reason:
            raise MissingDependency(
                f"The spaCy pipeline {pipeline!r} is not installed.",
                hint=f"Install it with: python -m spacy download {pipeline}",
            ) from reason
        about = self._pipeline.meta
        self.digest = f"{about.get('lang')}_{about.get('name')} {about.get('version')} {spacy.__version__}"

    def __call__(self, items: Sequence[str | list[str]]) -> list[Tagged]:
        from spacy.tokens import Doc

        vocabulary = self._pipeline.vocab
        docs = [x if isinstance(x, str) else Doc(vocabulary, words=x) for x in items]
        tagged = []
        for item, doc in zip(items, self._pipeline.pipe(docs)):
            tokens = [t for t in doc if not isinstance(item, str) or not t.is_space]
            tagged.append(([t.text for t in tokens], [t.pos_ or t.tag_ or "X" for t in tokens]))
        return tagged


class _Checkpoint(Tagger):
    """A model fine-tuned with optkit, or another one for this task: hf, onnx or openvino."""

    def __init__(self, source: str) -> None:
        from optkit.models.checkpoint import fetch
        from optkit.runtimes.base import open_session
        from optkit.tasks.base import open_task
        from optkit.tasks.token_classification import TokenClassification

        if not os.path.exists(source) and "/" not in source:
            raise CheckpointError(
                f"Unknown tagger {source!r}.",
                hint="none, jieba, spacy:PIPELINE, or the folder of a token-classification checkpoint.",
            )
        artifact = fetch(source)
        task = open_task(artifact)
        if not isinstance(task, TokenClassification):
            raise CheckpointError(
                f"Expected a token-classification checkpoint as the tagger, received one for {task.name}."
            )
        self._task, self.digest = task, artifact.fingerprint()
        # One thread: a process pool has a tagger in every process, and results do not depend on threads.
        self._session = open_session(artifact, threads=1)

    def __call__(self, items: Sequence[str | list[str]]) -> list[Tagged]:
        from optkit.runtimes.base import infer_all

        words = [self._task.words(item) if isinstance(item, str) else item for item in items]
        full = [tokens for tokens in words if tokens]
        tags = iter(
            self._task.tags(infer_all(self._session, self._task.encode(full), 32, 4096)) if full else []
        )
        return [(tokens, list(next(tags)) if tokens else []) for tokens in words]
