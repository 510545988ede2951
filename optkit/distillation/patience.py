"""Several processes: the first one does what must be done once, and the others wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from optkit.trainer.distributed import World

#: A teacher may answer for hours; torch itself ends a job in which one process waits for half an hour.
LONGEST = timedelta(days=7)


@contextmanager
def others_wait(world: World) -> Iterator[None]:
    """No process goes on behind the block before all have come to its end, for up to `LONGEST`.

    Where the first process fails, torchrun ends those that wait.
    """
    if world.size == 1:
        yield
        return
    import torch.distributed

    # Made before anyone is late: making it is itself a meeting, with torch's own patience.
    group = torch.distributed.new_group(backend="gloo", timeout=LONGEST)
    yield
    torch.distributed.barrier(group)
