"""`ModelTask`: the part of a task that its models ask for; `TASKS`: the tasks by name.

The registry lies here, below the tasks themselves: what loads a checkpoint asks the task for the class that
loads it and for the outputs that are read, whichever task that is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from optkit.core.artifact import Artifact
from optkit.core.registry import Registry

if TYPE_CHECKING:
    import torch


#: An output's or input's shape; a word stands for a size that varies.
Shape = tuple[int | str, ...]


class ModelTask:
    """What a task declares of the models that are for it; `optkit.tasks.base.Task` is the whole of a task."""

    name: ClassVar[str]
    #: How the names of its models end (config.json: `architectures`).
    architectures: ClassVar[tuple[str, ...]] = ()
    #: The class of transformers that loads them.
    auto_class: ClassVar[str]
    #: What they read: token ids, the values of pixels, or one of several forms of sound.
    reads: ClassVar[str | tuple[str, ...]] = "input_ids"
    #: What they read beside tokens, with values for each.
    also_reads: ClassVar[tuple[str, ...]] = ()
    #: Parts of these models, by name, that a checkpoint may lack, as the task does not use them.
    unused: ClassVar[tuple[str, ...]] = ()
    #: Whether their outputs have a value for every token of the vocabulary.
    predicts_tokens: ClassVar[bool] = False
    #: Whether `predict` continues prompts (`complete`) in place of answering inputs.
    generates: ClassVar[bool] = False
    #: Whether they have an encoder, which reads a source, and a decoder that writes a text about it.
    has_encoder: ClassVar[bool] = False
    #: Whether they have two towers, one that reads texts and one that reads images.
    has_towers: ClassVar[bool] = False
    #: Whether an answer is a vector, so that servers offer it to clients of embeddings.
    embeds: ClassVar[bool] = False
    #: The class of sentence-transformers that opens a folder with a graph for it; "" for none.
    sentence_transformers: ClassVar[str] = ""
    #: Whether an answer is an order of candidates, so that servers offer it to clients of rerankers.
    ranks: ClassVar[bool] = False
    #: Where labels come with each input, what the hub calls the task: servers offer it to its clients.
    asks_labels: ClassVar[str] = ""
    #: Whether an answer is what was said in a sound, so that servers offer it to clients of transcriptions.
    transcribes: ClassVar[bool] = False
    #: What such answers may give the times of: "word" or "segment".
    timed_by: ClassVar[str] = ""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> type[Self]:
        """The class for a model with this config.json, where a task has several."""
        return cls

    @classmethod
    def declared_by(cls, folder: Path, config: Mapping[str, Any]) -> bool:
        """Whether files in `folder`, beside the architecture's name, say that its model is for this task."""
        return False

    @classmethod
    def check_architecture(cls, config: dict[str, Any], architecture: str) -> None:
        """Raise CheckpointError where the model called `architecture`, with this config.json, is none of
        this task's, although its name ends as theirs do."""

    @classmethod
    def auto_class_of(cls, config: dict[str, Any]) -> str:
        """The class of transformers that loads a model with this config.json."""
        return cls.auto_class

    @classmethod
    def adapted(cls, model: torch.nn.Module) -> torch.nn.Module:
        """The torch module `model`, as transformers loaded it, for rows as the task encodes them."""
        return model

    @classmethod
    def completed(cls, model: torch.nn.Module, source: Artifact) -> torch.nn.Module:
        """The torch module `model`, as transformers loaded it from `source`, with all that answers need."""
        return model

    @classmethod
    def model_outputs(cls, model: torch.nn.Module) -> dict[str, Shape]:
        """The outputs that are read from the torch module `model`, with their shapes."""
        return {"logits": ("batch", model.config.num_labels)}


TASKS: Registry[type[ModelTask]] = Registry(
    "task",
    "optkit.tasks",
    {
        "audio-classification": "optkit.tasks.audio_classification:TASK",
        "automatic-speech-recognition": "optkit.tasks.automatic_speech_recognition:TASK",
        "causal-lm": "optkit.tasks.causal_lm:TASK",
        "embeddings": "optkit.tasks.embeddings:TASK",
        "fill-mask": "optkit.tasks.fill_mask:TASK",
        "image-classification": "optkit.tasks.image_classification:TASK",
        "layout-token-classification": "optkit.tasks.layout_token_classification:TASK",
        "multi-vector-embeddings": "optkit.tasks.multi_vector_embeddings:TASK",
        "multiple-choice": "optkit.tasks.multiple_choice:TASK",
        "object-detection": "optkit.tasks.object_detection:TASK",
        "question-answering": "optkit.tasks.question_answering:TASK",
        "rerank": "optkit.tasks.rerank:TASK",
        "semantic-segmentation": "optkit.tasks.semantic_segmentation:TASK",
        "sparse-embeddings": "optkit.tasks.sparse_embeddings:TASK",
        "text-classification": "optkit.tasks.text_classification:TASK",
        "text2text": "optkit.tasks.text2text:TASK",
        "token-classification": "optkit.tasks.token_classification:TASK",
        "zero-shot-classification": "optkit.tasks.zero_shot_classification:TASK",
        "zero-shot-image-classification": "optkit.tasks.zero_shot_image_classification:TASK",
    },
)
