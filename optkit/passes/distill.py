"""`distill`: the unpruned model, or another teacher, trains the checkpoint to answer as it does."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from optkit.artifact import Artifact, copy_side_files
from optkit.errors import CheckpointError, DataError, RecipeError
from optkit.passes.base import Pass, PassContext, param

#: Fewer training examples than this teach nothing that lasts.
FEWEST = 32


@dataclass(frozen=True)
class Distill(Pass):
    """Knowledge distillation: a teacher's soft labels and hidden states retrain a pruned checkpoint.

    The teacher is the checkpoint that the chain started from, or `teacher`, a folder. Training texts
    are used, their labels are not; the validation split decides which epoch is kept. Soft labels as
    Hinton et al. 2015; hidden states as in Sun et al. 2019 (where teacher and student are of one
    width). Interrupted, it resumes after the last whole epoch. Notes: scores by epoch, losses.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    needs_data: ClassVar[bool] = True
    keeps_answers: ClassVar[bool] = False

    teacher: str | None = param(None, "folder of the teacher; none: the checkpoint the chain started from")
    epochs: float = param(3.0, "passes over the training texts", minimum=0.01)
    batch: int = param(32, "texts per step", minimum=1)
    learning_rate: float = param(2e-4, "peak learning rate, after the warm-up", minimum=0.0)
    warmup: float = param(0.1, "share of the steps before the peak", minimum=0.0, maximum=0.9)
    temperature: float = param(2.0, "softens the teacher's labels", minimum=0.1)
    hidden: float = param(1.0, "weight of the hidden states; 0: answers only", minimum=0.0)
    max_length: int = param(128, "tokens per training text, longer ones are cut", minimum=4)
    seed: int = param(0, "seed of the order of the texts", minimum=0)

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        from optkit.checkpoint import load_model
        from optkit.distillation.train import distill
        from optkit.trainer.settings import FinetuneSettings

        if context.threads:
            import torch

            torch.set_num_threads(context.threads)
        teacher_at = Artifact.open(self.teacher or context.origin or source.path)
        _check_teacher(source, teacher_at)
        train = context.encoded("train", None).cut(self.max_length)
        if len(train) < FEWEST:
            raise DataError(
                f"Expected at least {FEWEST} training texts to distill on, received {len(train)}.",
                hint="Give more text; labels are not used.",
            )
        validation = context.labelled("validation")
        context.progress("loading teacher and student", 0.0)
        student, teacher = (
            load_model(a, context.task.name, context.trust_remote_code) for a in (source, teacher_at)
        )
        alike = student.config.hidden_size == teacher.config.hidden_size
        settings = FinetuneSettings(
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            weight_decay=0.0,
            max_length=self.max_length,
            seed=self.seed,
        )
        key = [source.fingerprint(), teacher_at.fingerprint(), self.parameters(), train.digest()]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
        notes = distill(
            student,
            teacher,
            train,
            validation,
            context.task,
            settings,
            self.temperature,
            self.hidden if alike else 0.0,
            out.parent / f".distill.work-{digest}",
            context.progress,
        )
        student.save_pretrained(str(out))
        config = (out / "config.json").read_bytes()
        copy_side_files(source.path, out)  # the tokenizer; config.json stays the student's
        (out / "config.json").write_bytes(config)
        return {**notes, "teacher": str(teacher_at.path), "hidden_states": alike and self.hidden > 0}


def _check_teacher(student: Artifact, teacher: Artifact) -> None:
    """Refuse a teacher that gives other labels or reads texts by other tokens. Raises RecipeError."""
    if teacher.format != "hf":
        raise CheckpointError(
            f"Expected a checkpoint as the teacher, received {str(teacher.path)!r} of format "
            f"{teacher.format}."
        )
    for what, key in (("labels", "id2label"), ("number of labels", "num_labels")):
        mine, its = student.config.get(key), teacher.config.get(key)
        if mine and its and mine != its:
            raise RecipeError(
                f"Expected a teacher with the student's {what} {mine}, received {its}.",
                hint="Fine-tune the teacher for the same labels, in the same order.",
            )
    if _vocabulary(student) != _vocabulary(teacher):
        raise RecipeError(
            "Expected a teacher with the student's tokenizer, received one with other tokens.",
            hint="Take a teacher of the same family.",
        )


def _vocabulary(artifact: Artifact) -> Any:
    file = artifact.path / "tokenizer.json"
    return json.loads(file.read_text(encoding="utf-8"))["model"].get("vocab") if file.exists() else None
