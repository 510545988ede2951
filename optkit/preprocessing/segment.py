"""Segmentation and part-of-speech tags: jieba for Chinese, sentences by punctuation."""

from __future__ import annotations

import logging
import re
from types import ModuleType

from optkit.errors import MissingDependency

_END = re.compile(r"(?<=[。！？])|(?<=[.!?])\s+(?=[\"'(\[]?[A-Z0-9])")


def sentences(text: str) -> list[str]:
    """Sentences by their final punctuation; joined again they hold every character but spaces.

    >>> sentences("It works. Does it? 好。很好！")
    ['It works.', 'Does it? 好。', '很好！']
    """
    return [part.strip() for part in _END.split(text) if part and part.strip()]


def words(text: str) -> list[str]:
    """Words of Chinese text by jieba's dictionary, without the spaces between."""
    return [word for word in _jieba().lcut(text, HMM=True) if word.strip()]


def tagged(text: str) -> tuple[list[str], list[str]]:
    """Words and their part of speech, in jieba's (ICTCLAS) tag set."""
    _jieba()
    import jieba.posseg

    pairs = [(p.word, p.flag) for p in jieba.posseg.lcut(text) if p.word.strip()]
    return [word for word, _ in pairs], [flag for _, flag in pairs]


def jieba_version() -> str:
    """jieba's version, on which words and tags depend."""
    return str(_jieba().__version__)


def _jieba() -> ModuleType:
    try:
        import jieba
    except ImportError as reason:
        raise MissingDependency.of("jieba", "preprocess") from reason
    jieba.setLogLevel(logging.WARNING)
    return jieba
