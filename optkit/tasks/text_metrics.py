"""How near a written text is to the one wanted: ROUGE (rouge-score), BLEU and chrF (sacrebleu), from 0 to 1.

Statistics of a pair of texts are counted once: intervals draw the same pairs many times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.errors import DataError, MissingDependency

if TYPE_CHECKING:
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

ROUGE = ("rougeL", "rougeLsum", "rouge1", "rouge2")
METRICS = (*ROUGE, "bleu", "chrf")
#: What an epoch of training is kept by: the perplexity of the targets, negated.
TRAINED_BY = "neg_perplexity"


def check(metric: str, references: Sequence[str]) -> None:
    """What `score` would raise, before any text is written. Raises DataError, MissingDependency."""
    if metric in ROUGE:
        _scorer(metric)
        for reference in references:
            if not re.search("[a-z0-9]", reference.lower()) and re.search(r"\w", reference):
                raise DataError(
                    f"ROUGE counts words of Latin letters and digits, of which {reference[:60]!r} has none.",
                    hint="Give --metric chrf or bleu.",
                )
    elif metric != TRAINED_BY:
        _sacrebleu(metric)


def score(metric: str, texts: Sequence[Any], references: Sequence[str]) -> float:
    """`metric` of `texts`, one per reference; NaN for none."""
    if not len(texts):
        return float("nan")
    if metric == TRAINED_BY:
        total, count = np.sum(texts, axis=0)
        return -float(np.exp(-total / count)) if count else float("nan")
    pairs = [*zip(map(str, texts), references)]
    if metric in ROUGE:
        return float(np.mean([_rouge(metric, *pair) for pair in pairs]))
    counted = [_statistics(metric, *pair) for pair in pairs]
    return float(_sacrebleu(metric)._aggregate_and_compute(counted).score) / 100


@lru_cache(maxsize=200_000)
def _rouge(metric: str, text: str, reference: str) -> float:
    """F-measure with Porter's stemmer, as summaries are scored; rougeLsum takes a line for a sentence."""
    return float(_scorer(metric).score(reference, text)[metric].fmeasure)


@lru_cache(maxsize=200_000)
def _statistics(metric: str, text: str, reference: str) -> list[Any]:
    counted: list[Any] = _sacrebleu(metric)._extract_corpus_statistics([text], [[reference]])[0]
    return counted


@lru_cache
def _scorer(metric: str) -> RougeScorer:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as reason:
        raise MissingDependency.of("rouge-score", "text2text") from reason
    return RougeScorer([metric], use_stemmer=True)


@lru_cache
def _sacrebleu(metric: str) -> sacrebleu.BLEU | sacrebleu.CHRF:
    try:
        import sacrebleu
    except ImportError as reason:
        raise MissingDependency.of("sacrebleu", "text2text") from reason
    return sacrebleu.BLEU() if metric == "bleu" else sacrebleu.CHRF()


def cleaned(text: str) -> str:
    """As transformers cleans up spaces where tokenizer_config.json asks for it.

    >>> cleaned("It is n't so , he said .")
    "It isn't so, he said."
    """
    for before in (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(before, before.strip())
    return text
