"""Models of semantic segmentation, as transformers documents them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from optkit.benchmarking.reference.base import Outputs
from optkit.benchmarking.reference.image_classification import OneByOne


class SemanticSegmentation(OneByOne):
    """Classes by the processor's own `post_process_semantic_segmentation`, in double precision."""

    auto, names = "AutoModelForSemanticSegmentation", ("logits",)

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Any]:
        import torch

        masks = []
        for logits, size in zip(outputs["logits"], outputs["size"]):
            told = SimpleNamespace(logits=torch.from_numpy(logits[None]).double())
            sizes = [tuple(size.tolist())]
            one = self.processor.post_process_semantic_segmentation(told, target_sizes=sizes)[0]
            masks.append(one.tolist())
        return masks


REFERENCE = SemanticSegmentation
