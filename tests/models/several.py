"""Tasks whose answers come of several texts, of each token, or of boxes: their inputs, and what transformers
itself answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.models.families import CHOICE, LAYOUT, MULTI, RERANK, SPARSE, TOWERS, ZERO

if TYPE_CHECKING:
    from tests.models.reference import Reference

#: Task → the output of optkit's models that is compared.
OUTPUTS = {
    **dict.fromkeys((RERANK, ZERO, CHOICE, LAYOUT, TOWERS), "logits"),
    SPARSE: "sentence_embedding",
    MULTI: "token_embeddings",
}
#: What images are asked for: texts of several lengths.
LABELS = ["film", "a fine film", "the plot is thin and the cast is bad"]
#: Tasks whose inputs are pairs of texts.
PAIRS = (RERANK, ZERO, CHOICE)


def inputs_of(task: str, texts: list[str]) -> list[Any]:
    """For `encode`: pairs have as many tokens as the texts; a second choice is shorter or as long."""
    if task == LAYOUT:
        return [_page(text.split(" ")) for text in texts]
    if task not in PAIRS:
        return texts
    pairs = [text.partition(" ")[::2] for text in texts]
    if task == ZERO:
        return [(second, [first], "{}", True) for first, second in pairs]
    if task == RERANK:
        return [(first, [second]) for first, second in pairs]
    return [(first, [second, second[: len(second) // 2 + 1].strip()]) for first, second in pairs]


def together(reference: Reference, inputs: list[Any]) -> list[np.ndarray]:
    """The answers to one padded batch."""
    torch, tokenizer, model, task = reference.torch, reference.tokenizer, reference.model, reference.task
    if task == TOWERS:
        return _fitting(reference, [image for image, _ in inputs])
    if task == LAYOUT:  # tokenizers pad no boxes
        return [_tagged(reference, page) for page in inputs]
    if task in PAIRS:
        pairs = [pair for item in inputs for pair in _pairs(task, item)]
        feeds = tokenizer(*map(list, zip(*pairs)), padding=len(pairs) > 1, return_tensors="pt")
    else:
        feeds = tokenizer(inputs, padding=len(inputs) > 1, return_tensors="pt")
    if task == CHOICE:
        feeds = {name: value.view(len(inputs), 2, -1) for name, value in feeds.items()}
    with torch.no_grad():
        answer = model(**feeds)
        if task in PAIRS:
            return list(answer.logits.numpy())
        mask = feeds["attention_mask"]
        if task == SPARSE:  # SPLADE: the largest log(1 + max(logit, 0)) over the tokens
            weights = torch.log1p(torch.relu(answer.logits)) * mask[..., None]
            return list(weights.amax(dim=1).numpy())
        vectors = torch.nn.functional.normalize(answer[0], dim=-1)
        return [row[one.bool()].numpy() for row, one in zip(vectors, mask)]


def _pairs(task: str, item: Any) -> list[tuple[str, str]]:
    """The pairs of texts that the model reads for one input; a hypothesis stands behind its text."""
    return [(item[0], second) for second in item[1]]


def _fitting(reference: Reference, images: list[Any]) -> list[np.ndarray]:
    """The logits of `LABELS` for each image, as the pipeline asks; SigLIP reads 64 tokens."""
    siglip = reference.model.config.model_type == "siglip"
    padding = {"padding": "max_length", "max_length": 64} if siglip else {"padding": True}
    texts = [f"This is a photo of {label}." for label in LABELS]
    feeds = reference.tokenizer(texts, return_tensors="pt", **padding)
    pixels = reference.processor(images=images, return_tensors="pt")
    with reference.torch.no_grad():
        return list(reference.model(**feeds, **pixels).logits_per_image.numpy())


def _page(words: list[str]) -> dict[str, Any]:
    random = np.random.default_rng(len(words))
    corners = np.sort(random.integers(0, 1001, (len(words), 2, 2)), axis=1)
    return {"words": words, "boxes": corners.reshape(-1, 4).tolist()}


def _tagged(reference: Reference, page: dict[str, Any]) -> np.ndarray:
    """The logits of a page's words, each of one token, as transformers' example of LayoutLM feeds it."""
    torch = reference.torch
    feeds = reference.tokenizer(page["words"], is_split_into_words=True, return_tensors="pt")
    boxes = torch.tensor([[[0] * 4, *page["boxes"], [1000] * 4]])
    if reference.model.config.model_type == "bros":
        boxes = boxes / 1000
    with torch.no_grad():
        return reference.model(**feeds, bbox=boxes).logits[0, 1:-1].numpy()
