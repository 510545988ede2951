"""Models of semantic segmentation, as transformers documents them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.base import Outputs
from optkit.benchmarking.reference.image_classification import OneByOne

if TYPE_CHECKING:
    import torch
    from transformers.modeling_outputs import ModelOutput


#: Logits at the size of an image, in double precision, that are held at once: 1 GB.
MOST = 1 << 27


class SemanticSegmentation(OneByOne):
    """Classes by the processor's own `post_process_semantic_segmentation`, in double precision."""

    auto, names = "AutoModelForSemanticSegmentation", ("logits",)

    def load(self) -> None:
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(str(self.folder), **self.trusted)
        self.of_queries = config.model_type in ("mask2former", "maskformer")
        if self.of_queries:
            self.auto = "AutoModelForUniversalSegmentation"
        super().load()

    def logits(self, answer: ModelOutput) -> Mapping[str, torch.Tensor]:
        """Of models that answer with a mask and a class per query the processor itself makes them."""
        if not self.of_queries:
            return answer
        made = self.processor.post_process_semantic_segmentation(answer, return_segmentation_scores=True)
        return {"logits": made[0]["segmentation_scores"][None]}

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> Iterator[Any]:
        """One after the other: as lists they are large."""
        import torch

        for logits, size in zip(outputs["logits"], outputs["size"]):
            values, sizes = torch.from_numpy(logits[None]).double(), [tuple(size.tolist())]
            if self.of_queries or len(logits) * int(np.prod(size)) > MOST:
                yield _by_class(values, sizes[0]).tolist()
            else:
                told = SimpleNamespace(logits=values)
                yield self.processor.post_process_semantic_segmentation(told, sizes)[0].tolist()


def _by_class(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The same (`interpolate` and the largest), a class at a time."""
    import torch

    def drawn(kind: int) -> torch.Tensor:
        plane = logits[:, kind : kind + 1]
        return torch.nn.functional.interpolate(plane, size=size, mode="bilinear", align_corners=False)[0, 0]

    best, answer = drawn(0), torch.zeros(size, dtype=torch.int64)
    for kind in range(1, logits.shape[1]):
        plane = drawn(kind)
        answer[plane > best] = kind
        best = torch.maximum(best, plane)
    return answer


REFERENCE = SemanticSegmentation
