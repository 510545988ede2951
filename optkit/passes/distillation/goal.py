"""`Goal`: a student, its teacher, and what of the teacher the student is to take over."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optkit.errors import RecipeError
from optkit.models.checkpoint import is_per_token, model_outputs
from optkit.models.uneven.hidden import width_of
from optkit.passes.distillation import loss
from optkit.passes.distillation.view import View, attention_of

if TYPE_CHECKING:
    import torch

    from optkit.models.uneven.layout import Sublayer


@dataclass
class Goal:
    """Weights of the parts of the loss: `hidden` states, attention `relations`, hard `labels`; answers
    count 1. `layers[i]` is the teacher's layer for layer i + 1 of the student; empty: at even distances.

    Weights of the student that are the teacher's own (embeddings that no pruning touched) are frozen: they
    need no training, and an optimizer spends a large part of a step on them.
    """

    student: torch.nn.Module
    teacher: torch.nn.Module
    temperature: float = 2.0
    hidden: float = 1.0
    relations: float = 0.0
    labels: float = 0.0
    layers: Sequence[int] = ()
    frozen: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        shapes = model_outputs(self.student)
        self._outputs = list(shapes)
        self._per_token = {name for name, shape in shapes.items() if is_per_token(shape)}
        single = getattr(self.student.config, "problem_type", None) in (None, "single_label_classification")
        labels = shapes.get("logits", (1,))[-1]
        several = isinstance(labels, int) and labels > 1  # of pixels the classes come first
        self._distribution = self._outputs == ["logits"] and single and several
        if shapes != model_outputs(self.teacher):
            raise RecipeError(
                f"Expected a teacher that gives answers of the student's shape, {shapes}, received "
                f"{model_outputs(self.teacher)}.",
                hint="Take a teacher for the same labels, or with vectors of the same length.",
            )
        if self.labels and (self._per_token or not self._distribution):
            raise RecipeError("Expected a classifier of one label for hard labels; use labels = 0.")
        places = any({"height", "width"} & set(shape) for shape in shapes.values()) or "pred_boxes" in shapes
        if places or not _states_compare(self.student, self.teacher):
            self.hidden = 0.0
        student_states, its = _mapped(_depth(self.student), _depth(self.teacher), self.layers)
        self.frozen = _freeze(self.student, self.teacher)
        skip = 1 if self.frozen else 0
        states = (student_states[skip:], its[skip:]) if self.hidden else ((), ())
        heads: tuple[Sublayer | None, Sublayer | None] = (None, None)
        if self.relations:
            attention = attention_of(self.student)
            heads = attention, attention_of(self.teacher, its[attention.index + 1] - 1)
        self._view = View(self.student, states[0], heads[0])
        self.teacher_view = View(self.teacher, states[1], heads[1])

    def loss(
        self,
        model: torch.nn.Module,
        feeds: dict[str, torch.Tensor],
        told: dict[str, Any],
        labels: torch.Tensor,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """(loss, answer) for one batch; `model` is the student, possibly wrapped for several processes,
        `told` what the teacher's view showed, as a mapping."""
        answer = View(model, self._view.states, self._view.attention)(feeds, self._outputs)
        valid = feeds.get("attention_mask")
        total: torch.Tensor | float = 0.0
        for name in self._outputs:
            own, its = answer.outputs[name], told["outputs"][name]
            counts = valid if name in self._per_token else None
            if self._distribution:
                total = total + loss.soft_labels(own, its, self.temperature, counts)
            else:
                total = total + loss.values(own, its, counts)
        if self.hidden:
            total = total + self.hidden * loss.hidden_states(answer.states, told["states"], valid)
        if self.relations:
            total = total + self.relations * loss.relations(answer.attention, told["attention"], valid)
        if self.labels:
            total = total + self.labels * loss.hard_labels(answer.outputs["logits"], labels)
        return total, answer.outputs

    def describe(self) -> dict[str, Any]:
        """For the report."""
        return {
            "hidden_states": self.hidden > 0,
            "relations": self.relations > 0,
            "frozen_weights": self.frozen,
            "layers": {str(m): i for m, i in zip(self._view.states, self.teacher_view.states)},
        }


def _mapped(depth: int, its: int, layers: Sequence[int]) -> tuple[list[int], list[int]]:
    """Numbers of hidden states, the student's and the teacher's for each; 0 is after the embeddings."""
    if layers and (len(layers) != depth or not all(1 <= n <= its for n in layers)):
        raise RecipeError(
            f"Expected layers to give one of the teacher's layers 1 to {its} for each of the student's "
            f"{depth}, received {list(layers)}."
        )
    return list(range(depth + 1)), [0, *(layers or [round((i + 1) * its / depth) for i in range(depth)])]


def _freeze(student: torch.nn.Module, teacher: torch.nn.Module) -> int:
    """Freeze what the student's embeddings share with the teacher's; how many numbers that is."""
    import torch

    count = 0
    others = dict(teacher.named_parameters())
    for name, parameter in student.named_parameters():
        its = others.get(name)
        if its is None or its.shape != parameter.shape or "embeddings" not in name:
            continue
        if torch.equal(parameter, its.to(parameter.device)):
            parameter.requires_grad_(False)
            count += parameter.numel()
    return count


def _states_compare(student: torch.nn.Module, teacher: torch.nn.Module) -> bool:
    """Whether the hidden states of both have a distance: of one width, in every layer, of the text or image
    itself. Stages of growing width have none (ResNet), nor two networks that answer together (BART, T5)."""
    if any(not hasattr(model.config, "hidden_size") for model in (student, teacher)):
        return False
    decodes = "decoder_input_ids" in inspect.signature(student.forward).parameters
    return not decodes and width_of(student) == width_of(teacher)


def _depth(model: torch.nn.Module) -> int:
    """Layers that a student's and a teacher's correspond by; 0 for a model of stages."""
    return getattr(model.config, "num_hidden_layers", 0)
