"""`World`: the processes of one training job, as torchrun starts them. Alone, it is one process."""

from __future__ import annotations

import os
from dataclasses import dataclass

from optkit.errors import RecipeError
from optkit.trainer.settings import FinetuneSettings


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
        """Refuse a batch that cannot be shared evenly."""
        if settings.batch % (self.size * settings.accumulate):
            raise RecipeError(
                f"Expected a batch that {self.size} processes x {settings.accumulate} parts divide evenly, "
                f"received {settings.batch}."
            )

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            import torch.distributed

            torch.distributed.barrier()
