"""Train a student to answer as its teacher does, on transformers' own Trainer."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.core.output import writing
from optkit.data.examples import EncodedSet
from optkit.errors import PassError
from optkit.events import Event, Progress
from optkit.models.checkpoint import model_inputs, model_outputs
from optkit.models.soundness import refuse_unknown_ids
from optkit.passes.distillation.fake_int8 import fake_int8
from optkit.passes.distillation.goal import Goal
from optkit.passes.distillation.teacher_cache import Stored, TeacherValues, taught, values_in
from optkit.runtimes import token_logprobs
from optkit.runtimes.base import Feeds, Session, TensorSpec, infer_all
from optkit.tasks.base import Labelled, Task
from optkit.training.trainer.batches import MASS, SHARE, Rows, mass, places, shared
from optkit.training.trainer.distributed import World
from optkit.training.trainer.settings import FinetuneSettings
from optkit.training.trainer.setup import arguments, callbacks, last_checkpoint, trainer_class

if TYPE_CHECKING:
    import torch
    from transformers import Trainer, TrainerControl
    from transformers.modeling_outputs import ModelOutput


#: At most this many steps between two looks at the validation split, and two checkpoints.
STEPS = 500
#: Numbers of an output that are held at once: a language model's batch answers with a vocabulary per token.
MOST_VALUES = 1 << 27
#: The metric's name where nobody knows the right answers.
AGREEMENT = "agreement with the teacher"


@dataclass(frozen=True)
class Texts:
    """What is trained on: encoded, and the label of each, -1 where it has none or it is not to be used."""

    encoded: EncodedSet
    labels: np.ndarray


def distill(
    goal: Goal,
    train: Texts,
    validation: Labelled,
    task: Task,
    settings: FinetuneSettings,
    work: Path,
    progress: Callable[[str, float | None], None] = lambda text, fraction: None,
    int8_epochs: float = 0.0,
) -> dict[str, Any]:
    """Train `goal.student` in place towards `goal.teacher`; its best moment is what stays.

    The best is that with the highest score of the task on `validation` (where that has no references, the
    share of answers equal to the teacher's), of equals the one whose answers lie nearest to the teacher's;
    looked for after each epoch, in long ones every `STEPS` steps. Checkpoints and the teacher's lessons lie
    in `work` until the end: the same call resumes after the last checkpoint.
    In the last `int8_epochs` the student multiplies as INT8 will, and whenever it is looked at, so that the
    best moment is that of the INT8 model; its weights stay float.
    Raises PassError, which names the step, when the loss is no number.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(settings.seed)
    student, teacher, world = goal.student, goal.teacher.eval(), World.current()
    world.check(settings)
    names = model_inputs(student)
    for model in (student, teacher):
        refuse_unknown_ids(model, train.encoded, validation.encoded)
    wanted = answers(teacher, validation.encoded)

    def training(event: Event) -> None:
        if isinstance(event, Progress):
            progress(event.text, 0.3 + 0.7 * (event.fraction or 0.0))

    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        set_up = arguments(settings, work, world)
        every = _every(math.ceil(len(train.encoded) / settings.batch))
        set_up.eval_strategy = set_up.save_strategy = transformers.trainer_utils.IntervalStrategy.STEPS
        set_up.eval_steps = set_up.save_steps = every
        set_up.metric_for_best_model = "choice"
        teacher.to(set_up.device)
        with world.others_wait():
            teacher_values = taught(
                goal.teacher_view,
                train.encoded,
                names,
                work / "lessons",
                lambda done: progress("the teacher answers", 0.3 * done),
                world.is_first,
            )
        trainer = _trainer_class()(
            model=student,
            args=set_up,
            train_dataset=Rows(train.encoded.lengths.tolist()),
            eval_dataset=Rows(validation.encoded.lengths.tolist(), 1),
            data_collator=_collate(train, names, teacher_values),
            callbacks=callbacks(settings, training),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.goal = goal
        trainer.int8_share = int8_epochs / settings.epochs

        def judge() -> dict[str, float]:
            with fake_int8(student, on=int8_epochs > 0):
                return _judged(student, task, validation, wanted)

        trainer.judge = judge
        before = judge()
        trainer.train(resume_from_checkpoint=last_checkpoint(work))
        if task.settled_config:  # another model's logits lie elsewhere
            with fake_int8(student, on=int8_epochs > 0):
                best = task.settled(answers(student, validation.encoded), validation.references)
            for key, value in best.settled_config.items():
                setattr(student.config, key, value)
    history = [
        {"epoch": round(e["epoch"], 4), "score": e["eval_score"], "distance": e["eval_distance"]}
        for e in trainer.state.log_history
        if "eval_score" in e
    ]
    student.eval()
    if world.is_first:
        shutil.rmtree(work, ignore_errors=True)
    return {
        "metric": task.metric if _has_labels(validation) else AGREEMENT,
        "score_before": before["eval_score"],
        "distance_before": before["eval_distance"],
        "score": max(e["score"] for e in history),
        "history": history,
        "losses": [round(e["loss"], 5) for e in trainer.state.log_history if "loss" in e],
        "examples": len(train.encoded),
        "processes": world.size,
        "lessons": "stored" if isinstance(teacher_values, Stored) else "live",
    }


def answers(model: torch.nn.Module, encoded: EncodedSet) -> dict[str, list[np.ndarray]]:
    """The outputs of a torch module for every example."""
    model.eval()
    per_token = max(values_in(shape) for shape in model_outputs(model).values())
    return infer_all(_Module(model), encoded, 64, min(8192, MOST_VALUES // per_token))


def _judged(
    student: torch.nn.Module, task: Task, validation: Labelled, wanted: Mapping[str, list[np.ndarray]]
) -> dict[str, float]:
    """Score, distance to the teacher's answers (mean square), and the number that the choice goes by."""
    outputs = answers(student, validation.encoded)
    names = [name for name in (*model_outputs(student), token_logprobs.OUTPUT) if name in outputs]
    apart = [((a - b) ** 2).mean() for n in names for a, b in zip(outputs[n], wanted[n]) if a.size]
    if _has_labels(validation):
        task = task.settled(outputs, validation.references)
        score = float(task.score(task.answers(outputs), validation.references))
    else:
        score = float(task.same(wanted, outputs).mean())
    distance = float(np.mean(apart))
    if not math.isfinite(distance):
        raise PassError("The student's answers are no numbers any more; its training has diverged.")
    # Too little to outweigh one example, enough to decide between equals.
    choice = score + 1e-7 / (1.0 + distance)
    return {"eval_score": score, "eval_distance": distance, "eval_choice": choice}


def _has_labels(validation: Labelled) -> bool:
    return any(reference is not None for reference in validation.references)


def _every(steps: int) -> int:
    """Steps between two looks: an epoch, or an even part of one."""
    return math.ceil(steps / math.ceil(steps / STEPS))


class _Module(Session):
    """A torch module that is at hand, as a session."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self.inputs = tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in model_inputs(model))
        self.outputs = tuple(TensorSpec(n, "float32", shape) for n, shape in model_outputs(model).items())

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        import torch

        device = next(self._model.parameters()).device
        with torch.no_grad():  # as in lessons: it is trained on
            tensors = {n: torch.from_numpy(a).to(device) for n, a in self.select(feeds).items()}
            answer = self._model(**tensors, return_dict=True)
            return {spec.name: answer[spec.name].float().cpu().numpy() for spec in self.outputs}

    def close(self) -> None:
        self._model = None


def _trainer_class() -> type[Trainer]:
    import torch

    class DistillTrainer(trainer_class()):  # type: ignore[misc]
        goal: Goal
        judge: Callable[[], dict[str, float]]
        int8_share: float
        control: TrainerControl

        def compute_loss(
            self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: object
        ) -> torch.Tensor | tuple[torch.Tensor, ModelOutput]:
            share = inputs.pop(SHARE)
            model.eval()  # the teacher answers without dropout; noise would be one more thing to learn
            with fake_int8(self.goal.student, on=self.is_int8):
                loss, answer = self.goal.loss(model, **inputs)
            if not torch.isfinite(loss):
                raise PassError(
                    f"The loss is {float(loss.detach())} at step {self.state.global_step}, "
                    f"epoch {self.state.epoch:.2f}.",
                    hint=f"Lower the learning rate. The checkpoints before lie in {self.args.output_dir!r}.",
                )
            loss = shared(loss, answer, share)
            return (loss, answer) if return_outputs else loss

        @property
        def is_int8(self) -> bool:
            """Whether the step at hand is one of the last ones, which meet INT8's rounding."""
            left = self.state.max_steps - self.state.global_step
            return left <= round(self.int8_share * self.state.max_steps)

        def evaluate(self, *_: object, **__: object) -> dict[str, float]:
            metrics = self.judge()
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    return DistillTrainer


def _collate(
    train: Texts, names: list[str], teacher_values: TeacherValues
) -> Callable[[list[dict[str, int]]], dict[str, Any]]:
    import torch

    def collate(items: list[dict[str, int]]) -> dict[str, Any]:
        rows = places(items)
        indices = rows or [0]
        batch = train.encoded.batch(np.array(indices))
        feeds = {name: torch.from_numpy(batch[name]) for name in names}
        told = teacher_values(indices, feeds)
        labels = torch.from_numpy(train.labels[indices])
        return {"feeds": feeds, "told": vars(told), "labels": labels, MASS: mass(len(rows))}

    return collate
