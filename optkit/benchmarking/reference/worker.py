"""The process of the baseline: transformers' answers, and where ours differ (`optkit.core.process.Child`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.benchmarking import memory
from optkit.benchmarking.accuracy import save_outputs
from optkit.benchmarking.reference import compare
from optkit.benchmarking.reference.base import Outputs, Reference
from optkit.benchmarking.reference.tasks import reference_of
from optkit.core.artifact import Artifact
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, OptkitError, first_line
from optkit.events import Events, Progress, silent
from optkit.models import tokenization
from optkit.runtimes.base import infer_all, open_session
from optkit.tasks.base import Task, open_task
from optkit.tasks.label_mapping import disagreement
from optkit.tasks.labelled import Input

if TYPE_CHECKING:
    from optkit.core.reading import Json

#: Images that are opened at once.
_CHUNK = 256
#: Documents of a language model that both answer: each is long, and has a logit for every word.
LONG = 8


class ReferenceWorker:
    """Calls arrive through `optkit.core.process.Child`; `emit` sends progress back."""

    emit: Events = staticmethod(silent)

    def run(
        self,
        artifact: str,
        task: str,
        inputs: str,
        encoded: str,
        out: str,
        options: dict[str, Any],
        batch_size: int,
        max_tokens: int,
        metric: str | None = None,
        threads: int | None = None,
    ) -> dict[str, Any]:
        """Answer the JSON list in the file `inputs` by transformers; raw outputs go to `out`.

        Ours, encoded in the file `encoded`, are compared with it: ids, type ids, masks or pixels on these and
        on provoking inputs, then answers. `options` are those of the torch runtime. Gives `peak_rss_bytes`
        and `doubts`. Raises CheckpointError for what transformers cannot do and where inputs differ,
        PassError where answers do.
        """
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        opened = Artifact.open(artifact)
        model_task = open_task(opened, task, metric)
        pairs = len(model_task.takes) == 2  # which JSON gives as lists
        given = [tuple(x) if pairs and isinstance(x, list) else x for x in _read(inputs)]
        ours = EncodedSet.load(Path(encoded))
        theirs = self._open(opened, model_task, options, threads)
        self.emit(Progress("comparing our reading with transformers'"))
        try:
            compare.provoked(theirs, model_task)
            outputs = self._answer(theirs, given, ours)
        except IndexError as reason:  # an embedding of fewer tokens than the tokenizer knows
            raise CheckpointError(
                f"transformers cannot answer with {artifact!r}: {first_line(reason)}.",
                hint="The tokenizer and the weights do not fit each other; save both from one model.",
            ) from reason
        save_outputs(Path(out), outputs)
        compare.answers(theirs, model_task, outputs, given)
        peak = memory.peak()
        again = compare.again(theirs, given)
        self.emit(Progress("answering the same examples with optkit's session"))
        if model_task.generates and not model_task.has_encoder:
            ours = ours.first(LONG)
            outputs = {name: rows[:LONG] for name, rows in outputs.items()}
        with open_session(opened, "torch", task=task, threads=threads, **options) as session:
            session_outputs = infer_all(session, ours, batch_size, max_tokens, self._told)
        doubts = compare.outputs(outputs, model_task.aligned(outputs, session_outputs), again)
        return {"peak_rss_bytes": peak, "doubts": [*self._notes(opened, given), *theirs.doubts, *doubts]}

    def _open(
        self, artifact: Artifact, task: Task, options: dict[str, Any], threads: int | None
    ) -> Reference:
        import torch

        if threads:
            torch.set_num_threads(threads)
        trusted = bool(options.get("trust_remote_code", False))
        try:
            reference_class = reference_of(task)
            assert reference_class is not None
            theirs = reference_class(artifact.path, trusted, str(options.get("device", "cpu")))
        except OptkitError:
            raise
        except Exception as reason:
            raise CheckpointError(
                f"transformers cannot load {str(artifact.path)!r} for {task.name}: {first_line(reason)}",
                hint="The baseline is transformers' own; make the checkpoint load there first.",
            ) from reason
        theirs.progress = self._told
        return theirs

    def _answer(self, theirs: Reference, given: list[Input], ours: EncodedSet) -> Outputs:
        if "pixel_values" not in ours.arrays:
            rows = theirs.rows(given)
            compare.rows(rows, ours.arrays, given, theirs)
            return theirs.outputs(rows, given)
        outputs: Outputs = {}
        for start in range(0, len(given), _CHUNK):
            part = given[start : start + _CHUNK]
            rows = theirs.rows(part)
            compare.rows(
                rows, {"pixel_values": ours.arrays["pixel_values"][start : start + _CHUNK]}, part, theirs
            )
            for name, values in theirs.outputs(rows, part).items():
                outputs.setdefault(name, []).extend(values)
        return outputs

    def _notes(self, artifact: Artifact, given: list[Input]) -> list[str]:
        """Where the files of a checkpoint disagree, about labels and about what is in these inputs."""
        odd = disagreement(artifact.config)
        notes = [] if odd is None else [odd]
        if not tokenization.is_there(artifact.path):
            return notes
        tokenizer = tokenization.read(artifact.path)
        pairs = any(isinstance(x, tuple) for x in given)
        return [*notes, *tokenizer.notes, *(tokenizer.pair_notes if pairs else ())]

    def _told(self, answered: int) -> None:
        self.emit(Progress(f"{answered} answered"))


def serve() -> ReferenceWorker:
    return ReferenceWorker()


def _read(file: str) -> list[Json]:
    return json.loads(Path(file).read_text(encoding="utf-8"))
