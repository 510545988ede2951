"""The weights of a network that lies in pieces over the processes of a job (FSDP)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def whole_weights(network: torch.nn.Module) -> dict[str, Any]:
    """Name → tensor on the CPU in the first process; {} in the others. All processes have to call it.

    `network` is sharded, and stays so: whole tensors do not go back into it. Load them into another one.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return get_model_state_dict(network, options=options)
