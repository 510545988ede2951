"""Detectors, as transformers' pipeline runs them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from optkit.benchmarking.reference.base import Outputs
from optkit.benchmarking.reference.image_classification import OneByOne


class ObjectDetection(OneByOne):
    """Boxes by the processor's own `post_process_object_detection`, of any score, in double precision."""

    auto, names = "AutoModelForObjectDetection", ("logits", "pred_boxes")

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Any]:
        import torch

        detections = []
        for logits, boxes, size in zip(*(outputs[name] for name in (*self.names, "size"))):
            told = SimpleNamespace(
                logits=torch.from_numpy(logits[None]).double(),
                pred_boxes=torch.from_numpy(boxes[None]).double(),
            )
            sizes = torch.from_numpy(size[None]).double()
            one = self.processor.post_process_object_detection(told, threshold=0.0, target_sizes=sizes)[0]
            columns = torch.cat([one["labels"][:, None], one["scores"][:, None], one["boxes"]], dim=1)
            order = torch.argsort(one["scores"], descending=True, stable=True)
            detections.append(columns[order].tolist())
        return detections


REFERENCE = ObjectDetection
