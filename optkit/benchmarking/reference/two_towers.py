"""Images and texts of two towers, as transformers' ZeroShotImageClassificationPipeline reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.reference.base import Outputs
from optkit.benchmarking.reference.image_classification import ImageReference

if TYPE_CHECKING:
    from optkit.core.reading import Json


class TwoTowers(ImageReference):
    """The pipeline, one image with its labels at a time; of what is alone `get_image_features` and
    `get_text_features`."""

    auto = "AutoModelForZeroShotImageClassification"

    def load(self) -> None:
        import transformers

        super().load()
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(self.folder), **self.trusted)
        self.pipeline = transformers.pipeline(
            "zero-shot-image-classification",
            model=self.model,
            tokenizer=tokenizer,
            image_processor=self.processor,
            device=self.device,
        )
        positions = self.model.config.text_config.max_position_embeddings
        # The pipeline itself fails for longer ones.
        self.cut = {"truncation": True, "max_length": min(positions, tokenizer.model_max_length)}

    def features(self, file: str) -> np.ndarray:
        """Shape (1, channels, height, width)."""
        return super().features(file)[None]

    def rows(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        """Of a text no image."""
        none = self.processor(images=np.zeros((9, 9, 3), dtype=np.uint8), return_tensors="np")["pixel_values"]
        return [none[:0] if _is_text(x) else self.features(_whole(x)[0]) for x in inputs]

    def outputs(self, rows: Sequence[Any], inputs: Sequence[Any], alone: bool = False) -> Outputs:
        import torch

        outputs: Outputs = {"logits": [], "vectors": [], "characters": []}
        for number, item in enumerate(inputs):
            file, labels, template = _whole(item)
            with torch.inference_mode():
                if labels is None:
                    vector = self._vector(item)
                    logits = np.empty(0, dtype=np.float32)
                else:
                    options = {"tokenizer_kwargs": self.cut} if "siglip" not in self.kind else {}
                    asked = self.pipeline.preprocess(self.image(file), labels, template, **options)
                    asked = self.pipeline._ensure_tensor_on_device(asked, self.pipeline.device)
                    logits = self.pipeline._forward(asked)["logits"][0].float().cpu().numpy()
                    vector = np.empty(0, dtype=np.float32)
            outputs["logits"].append(logits)
            outputs["vectors"].append(vector)
            told = json.dumps(labels, ensure_ascii=False)
            outputs["characters"].append(np.array([ord(c) for c in told], dtype=np.int64))
            self.progress(number + 1)
        return {name: values for name, values in outputs.items() if any(map(np.size, values))}

    @property
    def kind(self) -> str:
        return str(self.model.config.model_type)

    def _vector(self, item: Any) -> np.ndarray:
        """Shape (1, width)."""
        if _is_text(item):
            siglip = {"padding": "max_length", "max_length": 64, "truncation": True}
            options = siglip if "siglip" in self.kind else {"padding": True, **self.cut}
            read = self.pipeline.tokenizer([item["text"]], return_tensors="pt", **options).to(self.device)
            return self.model.get_text_features(**read).pooler_output.float().cpu().numpy()
        read = self.processor(images=self.image(_whole(item)[0]), return_tensors="pt").to(self.device)
        return self.model.get_image_features(**read).pooler_output.float().cpu().numpy()

    def answers(self, outputs: Outputs, inputs: Sequence[Any]) -> list[Json] | None:
        """The best label of each image; None where nothing was asked."""
        import torch

        if "logits" not in outputs:
            return None
        answers: list[Json] = []
        for logits, item in zip(outputs["logits"], inputs):
            told = {"candidate_labels": _whole(item)[1], "logits": torch.from_numpy(logits[None])}
            answers.append([self.pipeline.postprocess(told)[0]["label"]])
        return answers


def _is_text(item: Any) -> bool:
    return isinstance(item, Mapping) and "text" in item


def _whole(item: Any) -> tuple[Any, list[str] | None, str]:
    """The image, its labels and the template; no labels of what is alone."""
    if not isinstance(item, list | tuple):
        return item["image"] if isinstance(item, Mapping) and "image" in item else item, None, ""
    file, labels, *more = item
    labels = [x.strip() for x in labels.split(",") if x.strip()] if isinstance(labels, str) else list(labels)
    return file, labels, next((x for x in more if isinstance(x, str)), "This is a photo of {}.")


REFERENCE = TwoTowers
