"""`distill`: the unpruned model, or another teacher, trains the checkpoint to answer as it does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from optkit.benchmarking.unlabelled_texts import there
from optkit.core.artifact import Artifact
from optkit.core.files import digest, sha256
from optkit.core.quantities import COUNT, EPOCHS_OR_NONE, RATE_OR_NONE, SEED, WEIGHT
from optkit.errors import DataError, RecipeError
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.distillation.teacher import check_teacher, find_teacher
from optkit.tasks.base import Labelled, Task

if TYPE_CHECKING:
    from optkit.passes.distillation.train import Texts

#: Fewer training examples than this teach nothing that lasts.
FEWEST = 32
_CHOSEN = (
    "queries that keep their order; these models choose theirs by a score, so that none has a counterpart"
)
#: model_type → what is missing for a student of it.
_NOT_TAUGHT = {
    "funnel": "hidden states for each token; Funnel pools them to fewer, which compare with none",
    **dict.fromkeys(("rt_detr", "rt_detr_v2", "d_fine"), _CHOSEN),
}


@dataclass(frozen=True)
class Distill(Pass):
    """Knowledge distillation: a teacher's soft labels and inner states retrain a smaller checkpoint.

    The student is the source: what `prune` or `take-layers` left, or any checkpoint that has the teacher's
    labels and tokens. The teacher is the checkpoint that the chain started from, or `teacher`, a folder.
    Texts of the training split are used, and those of `unlabelled`; labels only with `labels` above 0. The
    validation split decides which moment of the training is kept. Without data, `unlabelled` alone is learned
    from, and the agreement with the teacher on a tenth of it that is held out decides. Soft labels as Hinton
    et al. 2015, hidden states as Sun et al. 2019, relations as Wang et al. 2020 (MiniLM-v2). With
    `quantization_aware` the linear layers round as INT8 does in the last epochs (Jacob et al. 2018), and
    scores are those of the rounded model; a float checkpoint is what comes out. Interrupted, it resumes after
    the last checkpoint. Notes: scores and distances to the teacher, losses.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    needs_data: ClassVar[bool] = True
    needs_own_data: ClassVar[bool] = True
    suffix: ClassVar[str] = "distilled"
    keeps_answers: ClassVar[bool] = False

    teacher: str | None = param(None, "folder or hub name; none: the checkpoint the chain started from")
    epochs: float = param(3.0, "passes over the texts", minimum=0.01)
    batch: int = param(32, "texts per step", of=COUNT)
    learning_rate: float = param(2e-4, "peak learning rate, after the warm-up", of=RATE_OR_NONE)
    warmup: float = param(0.1, "share of the steps before the peak", minimum=0.0, maximum=0.9)
    temperature: float = param(2.0, "softens the teacher's labels", minimum=0.1)
    hidden: float = param(1.0, "weight of the hidden states, where both are of one width", of=WEIGHT)
    relations: float = param(0.0, "weight of the relations of queries, keys and values", of=WEIGHT)
    labels: float = param(0.0, "weight of the training split's own labels", of=WEIGHT)
    layers: tuple[int, ...] = param((), "the teacher's layer for each of the student's; none: evenly spread")
    unlabelled: str | None = param(None, "file of more texts: .txt with one a line, JSONL, CSV, Parquet")
    max_length: int = param(128, "tokens per training text, longer ones are cut", minimum=4)
    mixed_precision: str = param("no", "of products while training", choices=("no", "bf16", "fp16"))
    seed: int = param(0, "seed of the order of the texts", of=SEED)
    quantization_aware: float = param(
        0.0, "so many of the epochs, the last ones, meet the rounding of INT8; 0: none", of=EPOCHS_OR_NONE
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantization_aware > self.epochs:
            raise RecipeError(
                f"Expected distill.quantization_aware to be at most the {self.epochs:g} epochs, received "
                f"{self.quantization_aware:g}."
            )

    def check(self, checkpoint: Artifact, task: Task) -> None:
        """What comes before `distill` keeps labels and tokens, so the checkpoint's own are compared."""
        if not task.distills:
            raise RecipeError(
                f"Expected a task whose answers a student learns from a teacher's, received {task.name}.",
                hint="Leave distill out: a smaller model of this task is fine-tuned on the data itself.",
            )
        if why := _NOT_TAUGHT.get(checkpoint.config.get("model_type", "")):
            raise RecipeError(f"Expected {why}.", hint="Leave distill out.")
        if task.any_size:
            raise RecipeError(
                "Expected images of one size to learn from in batches, received an image processor that "
                "gives each a size of its own.",
                hint='Give both sides as size in preprocessor_config.json, {"height": 640, "width": 640}.',
            )
        if "audio" in task.needs:
            raise RecipeError(
                f"Expected a model of texts or images, received one for {task.name}, which reads audio.",
                hint="Leave distill out.",
            )
        check_teacher(checkpoint, find_teacher(self.teacher or checkpoint.path))
        if self.unlabelled is not None:
            there(self.unlabelled)

    def reads(self) -> dict[str, str]:
        """The teacher's files and the `unlabelled` one. Raises CheckpointError, DataError."""
        fingerprints = {}
        if self.teacher is not None:
            fingerprints["teacher"] = find_teacher(self.teacher).fingerprint()
        if self.unlabelled is not None:
            fingerprints["unlabelled"] = sha256(there(self.unlabelled))
        return fingerprints

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        from optkit.models.checkpoint import load_model, save_model
        from optkit.passes.distillation.goal import Goal
        from optkit.passes.distillation.train import distill
        from optkit.training.trainer.distributed import World
        from optkit.training.trainer.settings import FinetuneSettings

        if context.threads:
            import torch

            torch.set_num_threads(context.threads)
        teacher_at = find_teacher(self.teacher or context.origin or source.path)
        check_teacher(source, teacher_at)
        train, validation = self._texts(context) if context.own_data else self._unlabelled(context)
        context.progress("loading teacher and student", 0.0)
        student, teacher = (
            load_model(a, context.task.name, context.trust_remote_code) for a in (source, teacher_at)
        )
        goal = Goal(student, teacher, self.temperature, self.hidden, self.relations, self.labels, self.layers)
        settings = FinetuneSettings(
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            weight_decay=0.0,
            max_length=self.max_length,
            seed=self.seed,
            precision=self.mixed_precision.replace("no", "fp32"),
        )
        key = digest(
            *(source.fingerprint(), teacher_at.fingerprint(), self.parameters()),
            *(train.encoded.digest(), train.labels),
            *(validation.encoded.digest(), validation.references, context.task.metric),
        )
        work = out.parent / f".distill.work-{key}"
        notes = distill(
            *(goal, train, validation, context.task, settings, work, context.progress),
            int8_epochs=self.quantization_aware,
        )
        student.requires_grad_(True)
        if World.current().is_first:
            save_model(student, source, out)
        return {**notes, **goal.describe(), "teacher": str(teacher_at.path)}

    def _texts(self, context: PassContext) -> tuple[Texts, Labelled]:
        """The training split and the file of `unlabelled`, encoded; the validation split."""
        import numpy as np

        from optkit.benchmarking.unlabelled_texts import read
        from optkit.passes.distillation.train import Texts

        if self.labels:
            labelled = context.labelled("train")
            encoded, references = labelled.encoded, labelled.references
            if not all(isinstance(r, (int, np.integer)) for r in references):
                raise RecipeError("Expected a classifier of one label for hard labels; use labels = 0.")
        else:
            encoded = context.encoded("train", None)
            references = [-1] * len(encoded)
        if self.unlabelled is not None:
            texts, _ = read(self.unlabelled, context.task)
            encoded = encoded.and_also(context.task.encode(texts))
        _require_enough(len(encoded))
        labels = np.full(len(encoded), -1, dtype=np.int64)
        labels[: len(references)] = references
        return Texts(encoded.cut(self.max_length), labels), context.labelled("validation")

    def _unlabelled(self, context: PassContext) -> tuple[Texts, Labelled]:
        """The file of `unlabelled` alone; a tenth of it tells how often student and teacher agree."""
        import numpy as np

        from optkit.benchmarking.unlabelled_texts import read
        from optkit.passes.distillation.train import Texts

        if self.unlabelled is None or self.labels:
            raise DataError(
                f"Expected data with labels{' for distill.labels' if self.labels else ''}, received none.",
                hint="Give --data; or, without --labels, texts to learn the teacher's answers on: "
                "--unlabelled FILE.",
            )
        texts, _ = read(self.unlabelled, context.task)
        _require_enough(len(texts))
        order = np.random.default_rng(self.seed).permutation(len(texts))
        count = max(2, len(texts) // 10 // 2 * 2)  # an even number: a task may answer pairs
        held, rest = sorted(order[:count]), sorted(order[count:])
        encoded = context.task.encode([texts[i] for i in rest]).cut(self.max_length)
        held_texts = [texts[i] for i in held]
        validation = Labelled(context.task.encode(held_texts), [None] * len(held_texts), inputs=held_texts)
        return Texts(encoded, np.full(len(encoded), -1, dtype=np.int64)), validation


def _require_enough(count: int) -> None:
    if count < FEWEST:
        raise DataError(
            f"Expected at least {FEWEST} training texts to distill on, received {count}.",
            hint="Give more text, with --unlabelled FILE too; labels are not needed.",
        )
