"""Two texts through one encoder in training, and what a batch of them loses, as in sentence-transformers.

- A pair with a score: the squared difference of the cosine of both vectors from it (CosineSimilarityLoss).
- A query and the document that answers it: the document learns to be nearer than all others of the batch,
  cross-entropy over them (MultipleNegativesRankingLoss, of vectors per token by MaxSim). Another row's
  document that is the same, or answers the same query, is none of these others.
- Sparse vectors pay for their weights besides (SpladeLoss with FlopsLoss).

Sources: N. Reimers and I. Gurevych, "Sentence-BERT" (EMNLP 2019); M. Henderson et al., "Efficient Natural
Language Response Suggestion" (2017); T. Formal et al., "SPLADE v2" (2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optkit.models.pooling import OUTPUT, TOKENS

if TYPE_CHECKING:
    import torch

#: Ending of the names of the second text's inputs.
SECOND = "_2"
#: An input of vectors per token: 1 where a token's counts.
COUNTED = "counted"


@dataclass(frozen=True)
class Contrast:
    """`scale` multiplies a similarity before the softmax; `query` and `document` are what a weight costs.

    Defaults of sentence-transformers' losses, and for the costs of their examples.
    """

    scale: float = 1.0
    query: float = 0.0
    document: float = 0.0


#: By `Pooling.kind`.
CONTRASTS = {"dense": Contrast(20.0), "sparse": Contrast(1.0, 5e-5, 3e-5), "tokens": Contrast()}


def pair(model: torch.nn.Module, kind: str, scale: float | None) -> torch.nn.Module:
    """`model` (see `pooled`) as the network to train: both vectors as `OUTPUT` (batch, 2, width), and with
    `labels` the loss.

    `scale` divides scores, (batch,); None: labels are the numbers of the query and of its document, (batch,
    2). One text alone, as validation has them of vectors per token, is answered by its own vectors.
    """
    import torch

    from optkit.models.checkpoint import model_inputs

    class Pair(torch.nn.Module):
        is_pooled = True
        accepts_loss_kwargs = False  # or the Trainer leaves the mean over accumulated batches to us

        def __init__(self) -> None:
            super().__init__()
            self.model, self.config, self.pooling = model, model.config, model.pooling
            one = [*model_inputs(model), *([COUNTED] if kind == "tokens" else [])]
            self.inputs = [*one, *(f"{name}{SECOND}" for name in one)]

        @property
        def transformer(self) -> Any:
            return self.model.transformer

        def forward(self, labels: torch.Tensor | None = None, **inputs: Any) -> dict[str, torch.Tensor]:
            inputs.pop("return_dict", None)
            first = {n: v for n, v in inputs.items() if not n.endswith(SECOND)}
            second = {n.removesuffix(SECOND): v for n, v in inputs.items() if n.endswith(SECOND)}
            counted = [side.pop(COUNTED, None) for side in (first, second)]
            if not second:
                answer = self.model(**first)
                return answer if labels is None else {"loss": labels.sum() * 0.0, **answer}
            name = TOKENS if kind == "tokens" else OUTPUT
            a, b = self.model(**first)[name], self.model(**second)[name]
            answer = {name: a if kind == "tokens" else torch.stack([a, b], dim=1)}
            if labels is None:
                return answer
            if scale is not None:
                cosine = torch.nn.functional.cosine_similarity(a, b)
                return {"loss": torch.nn.functional.mse_loss(cosine, labels / scale), **answer}
            near = {"dense": _cosines, "sparse": _products, "tokens": _maxsim(*counted)}[kind](a, b)
            return {"loss": _contrast(a, b, near, labels, CONTRASTS[kind]), **answer}

    return Pair()


def _contrast(
    a: torch.Tensor, b: torch.Tensor, near: torch.Tensor, labels: torch.Tensor, stated: Contrast
) -> torch.Tensor:
    """Of queries `a` and documents `b`, `near` (batch, batch) to each other."""
    import torch

    queries, documents = labels.T
    same = (queries[:, None] == queries) | (documents[:, None] == documents)
    same.fill_diagonal_(False)
    right = torch.arange(len(near), device=near.device)
    near = (near * stated.scale).masked_fill(same, -torch.inf)
    loss = torch.nn.functional.cross_entropy(near, right)
    for vectors, cost in ((a, stated.query), (b, stated.document)):
        if cost:
            loss = loss + cost * (vectors.mean(dim=0) ** 2).sum()
    return loss


def _products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a @ b.T


def _cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    import torch

    return _products(*(torch.nn.functional.normalize(x, dim=-1) for x in (a, b)))


def _maxsim(
    first: torch.Tensor | None, second: torch.Tensor | None
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Of the tokens that count, `first` (batch, tokens) of queries and `second` of documents."""

    def near(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        import torch

        assert first is not None
        assert second is not None
        products = torch.einsum("qtd,bsd->qbts", a, b).masked_fill(second[None, :, None] == 0, -torch.inf)
        best = products.amax(dim=-1).nan_to_num(neginf=0.0)  # a document of which no token counts
        return (best * first[:, None].to(best.dtype)).sum(dim=-1)

    return near
