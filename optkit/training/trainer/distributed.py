"""`World`: the processes of one training job, as torchrun starts them. Alone, it is one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from optkit.errors import RecipeError, WorkerError
from optkit.training.trainer.settings import FinetuneSettings

#: A teacher may answer for hours; torch itself ends a job in which one process waits for half an hour.
LONGEST = timedelta(days=7)
#: What the messages name when a connection between processes breaks.
_TRANSPORTS = ("gloo", "NCCL", "Connection closed", "Connection reset")


@dataclass(frozen=True)
class World:
    """`rank` of this process among `size`."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> World:
        """From the environment that torchrun sets."""
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, settings: FinetuneSettings) -> int:
        """Examples per process and forward pass."""
        return settings.batch // (self.size * settings.accumulate)

    def check(self, settings: FinetuneSettings) -> None:
        """Refuse a batch that cannot be shared evenly, and sharding where there is nothing to shard over."""
        if settings.batch % (self.size * settings.accumulate):
            raise RecipeError(
                f"Expected a batch that {self.size} processes x {settings.accumulate} parts divide evenly, "
                f"received {settings.batch}."
            )

        if settings.fsdp:
            import torch

            if self.size < 2 or not torch.cuda.is_available():
                where = "on the CPU" if self.size > 1 else "in one process"
                raise RecipeError(
                    f"Expected several GPUs for fsdp, received a run {where}.",
                    hint="accelerate shards over GPUs only; without --fsdp CPUs work data parallel.",
                )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Name the failure of a process whose partners are gone. Raises WorkerError."""
        try:
            yield
        except RuntimeError as reason:
            if self.size == 1 or not any(name in str(reason) for name in _TRANSPORTS):
                raise
            raise WorkerError(
                f"Process {self.rank} of {self.size} lost another process of this job, which ended.",
                hint="The same command resumes after the last whole epoch.",
            ) from reason

    @contextmanager
    def others_wait(self) -> Iterator[None]:
        """For what the first process does once: none goes on behind the block before all have come to its
        end, for up to `LONGEST`. Where the first one fails, torchrun ends those that wait."""
        if self.size == 1:
            yield
            return
        import torch.distributed

        # Made before anyone is late: making it is itself a meeting, with torch's own patience.
        group = torch.distributed.new_group(backend="gloo", timeout=LONGEST)
        yield
        torch.distributed.barrier(group)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            import torch.distributed

            torch.distributed.barrier()
