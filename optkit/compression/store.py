"""`Store`: a work folder, in which each name hashes all that its content depends on.

The same command run again therefore finds what an interrupted one left, and a changed one does not.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from optkit.compression.job import Job
from optkit.compression.search.models import in_use
from optkit.core.artifact import Artifact, library_versions
from optkit.core.files import digest
from optkit.core.schema.notes import PeakMemory, left_by_a_run
from optkit.passes.base import Pass


def spec(step: Pass) -> dict[str, Any]:
    """`step` as a name hashes it: its own and every parameter."""
    return {"pass": step.name(), **step.parameters()}


def key_after(key: str, *chain: Pass, data: object = None) -> str:
    """The key of what `chain` makes from what `key` names.

    It follows the contents of what a pass reads beside its source (`Pass.reads`); `data` stands for the
    data and the metric, which passes that need data read.
    """
    for step in chain:
        shown = [data] if step.needs_data and data is not None else []
        beside = step.reads()
        key = digest(key, spec(step), *shown, *([beside] if beside else []))
    return key


def step_folder(work: Path, step: Pass, key: str) -> Path:
    """Where the artifact with the key `key`, which `step` made last, lies."""
    return work / f"{step.name()}-{key}"


def pass_record(artifact: Artifact) -> dict[str, Any]:
    """What the last pass left about itself, as the fields of a row."""
    last, file = artifact.lineage[-1], peak_file(artifact.path)
    record = {"notes": last["notes"], "seconds": last["seconds"]}
    if file.exists():  # not where a run ended between pass and note
        record["pass_peak_rss_bytes"] = left_by_a_run(PeakMemory, file).peak_rss_bytes
    return record


def peak_file(folder: Path) -> Path:
    """Where the peak memory of the pass that made `folder` is noted, for a run that resumes."""
    return folder.with_name(f"{folder.name}.peak.json")


@dataclass(frozen=True)
class Store:
    """The work folder `folder`, where `root` is the key of the checkpoint with all that scores depend on.

    What one process makes others wait for. Where it is `shared`, none of them deletes what this one has used
    until the end of the `with` block.
    """

    folder: Path
    root: str
    data: object = None
    shared: bool = False
    #: What scores depend on beside the model: the metric, and whether agreement is asked for too.
    asked: tuple[str, ...] = ()
    _used: ExitStack = field(default_factory=ExitStack, init=False, compare=False)

    @classmethod
    def of(cls, job: Job) -> Store:
        """The store of `job`, in its work folder. Passes read all splits of the data, not only the scored."""
        labelled, task = job.evaluator.labelled, job.evaluator.task
        root = digest(
            job.source.fingerprint(),
            task.name,
            job.data.fingerprint(job.split),
            labelled.references,
            labelled.encoded.digest(),
            asdict(job.columns),
            library_versions(),
        )
        data = [{split: job.data.fingerprint(split) for split in job.data.splits}, task.metric]
        agreement = ["agreement"] if job.evaluator.asks_agreement else []
        return cls(job.work, root, data, asked=(task.metric, "answers", *agreement))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._used.close()

    def keys(self, chain: tuple[Pass, ...]) -> list[str]:
        """The key of what each pass of `chain` makes."""
        one_more = lambda key, step: key_after(key, step, data=self.data)  # noqa: E731
        return list(accumulate(chain, one_more, initial=self.root))[1:]

    def answers_files(self, key: str) -> tuple[Path, Path]:
        """Where the answers of what `key` names are noted, and its raw outputs."""
        name = digest(key, *self.asked)
        return self.folder / f"row-{name}.json", self.folder / f"outputs-{name}.npz"

    def folders(self, chain: tuple[Pass, ...]) -> list[Path]:
        """Where what each pass of `chain` makes lies; in use from now on."""
        folders = [step_folder(self.folder, step, key) for step, key in zip(chain, self.keys(chain))]
        for folder in folders if self.shared else ():
            self._used.enter_context(in_use(folder))
        return folders
