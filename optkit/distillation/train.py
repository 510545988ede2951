"""Train a student to answer as its teacher does, on transformers' own Trainer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from optkit.artifact import writing
from optkit.checkpoint import model_inputs, model_outputs
from optkit.distillation import loss
from optkit.examples import EncodedSet
from optkit.session import Feeds, Session, TensorSpec, infer_all
from optkit.task import Labelled, Task
from optkit.trainer.distributed import World
from optkit.trainer.settings import FinetuneSettings
from optkit.trainer.setup import Progress, arguments, callbacks, last_checkpoint, trainer_class


def distill(
    student: Any,
    teacher: Any,
    train: EncodedSet,
    validation: Labelled,
    task: Task,
    settings: FinetuneSettings,
    temperature: float,
    hidden: float,
    work: Path,
    progress: Progress = lambda text, fraction: None,
) -> dict[str, Any]:
    """Train `student` in place; its best epoch by the task's score on `validation` is what stays.

    The loss is the KL divergence to the teacher's soft labels, or the squared error of outputs that are
    no distribution, plus `hidden` times that of the hidden states. Labels are not used for training.
    Checkpoints lie in `work` until the end: the same call resumes after the last whole epoch.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(settings.seed)
    for module in student.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0  # the teacher answers without; noise would be one more thing to learn
    rule = _rule(student, teacher, temperature, hidden)
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        trainer = _trainer_class()(
            model=student,
            args=arguments(settings, work, World.current()),
            train_dataset=_rows(train),
            eval_dataset=_rows(validation.encoded),
            data_collator=_collate(train, model_inputs(student)),
            callbacks=callbacks(settings, progress),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.teacher, trainer.rule = teacher.eval().to(trainer.args.device), rule
        trainer.score = lambda: score(student, task, validation)
        before = trainer.score()
        trainer.train(resume_from_checkpoint=last_checkpoint(work))
    history = [e for e in trainer.state.log_history if "eval_score" in e]
    student.eval()
    shutil.rmtree(work, ignore_errors=True)
    return {
        "metric": task.metric,
        "score_before": before,
        "score": trainer.state.best_metric,
        "history": [{"epoch": e["epoch"], "score": e["eval_score"]} for e in history],
        "losses": [round(e["loss"], 5) for e in trainer.state.log_history if "loss" in e],
        "examples": len(train),
    }


def score(model: Any, task: Task, labelled: Labelled) -> float:
    """The task's score of a torch module."""
    model.eval()
    session = _Module(model)
    return float(
        task.score(task.answers(infer_all(session, labelled.encoded, 64, 8192)), labelled.references)
    )


class _Module(Session):
    """A torch module that is at hand, as a session."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.inputs = tuple(TensorSpec(name, "int64", ("batch", "sequence")) for name in model_inputs(model))
        self.outputs = tuple(TensorSpec(n, "float32", shape) for n, shape in model_outputs(model).items())

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        import torch

        device = next(self._model.parameters()).device
        with torch.inference_mode():
            tensors = {n: torch.from_numpy(a).to(device) for n, a in self.select(feeds).items()}
            answer = self._model(**tensors, return_dict=True)
            return {spec.name: answer[spec.name].float().cpu().numpy() for spec in self.outputs}

    def close(self) -> None:
        self._model = None


def _trainer_class() -> Any:
    import torch

    class DistillTrainer(trainer_class()):  # type: ignore[misc]
        teacher: Any
        rule: Any
        score: Callable[[], float]
        control: Any

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            with torch.no_grad():
                told = self.teacher(**inputs, return_dict=True, output_hidden_states=True)
            answer = model(**inputs, return_dict=True, output_hidden_states=True)
            found = self.rule(answer, told, inputs.get("attention_mask"))
            return (found, answer) if return_outputs else found

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            metrics = {"eval_score": self.score()}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    return DistillTrainer


def _rule(student: Any, teacher: Any, temperature: float, hidden: float) -> Callable[..., Any]:
    """(student's answer, teacher's, mask) → the loss."""
    names = list(model_outputs(student))
    single = getattr(student.config, "problem_type", None) in (None, "single_label_classification")
    distribution = names == ["logits"] and single and student.config.num_labels > 1

    def rule(answer: Any, told: Any, mask: Any) -> Any:
        total = 0.0
        for name in names:
            if distribution:
                total = total + loss.soft_labels(answer[name], told[name], temperature, mask)
            else:
                total = total + loss.values(answer[name], told[name], mask)
        if hidden:
            total = total + hidden * loss.hidden_states(answer.hidden_states, told.hidden_states, mask)
        return total

    return rule


def _rows(encoded: EncodedSet) -> Any:
    import datasets

    lengths = encoded.lengths.tolist()
    return datasets.Dataset.from_dict({"index": list(range(len(lengths))), "length": lengths})


def _collate(encoded: EncodedSet, names: list[str]) -> Callable[[list[dict[str, int]]], dict[str, Any]]:
    import torch

    def collate(items: list[dict[str, int]]) -> dict[str, Any]:
        feeds = encoded.batch(np.array([item["index"] for item in items]))
        return {name: torch.from_numpy(feeds[name]) for name in names}

    return collate
