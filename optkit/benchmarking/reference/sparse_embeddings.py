"""Sparse embeddings, as SparseEncoder gives them."""

from __future__ import annotations

from optkit.benchmarking.reference.embeddings import Embeddings


class SparseEmbeddings(Embeddings):
    auto = "SparseEncoder"
    truncates = False


REFERENCE = SparseEmbeddings
