"""One of two processes that share a small network, as torchrun starts them; run by `test_sharded.py`."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
import transformers
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from optkit.training.trainer.sharded import whole_weights


def main(folder: str) -> None:
    """The weights of the checkpoint `folder` are in pieces, change by a step, and come back whole."""
    dist.init_process_group("gloo")
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    mesh = init_device_mesh("cpu", (2,))
    for layer in network.base_model.encoder.layer:
        fully_shard(layer, mesh=mesh)
    fully_shard(network, mesh=mesh)
    network(input_ids=torch.tensor([[1, 2, 3]])).logits[0, 0].backward()
    torch.optim.SGD(network.parameters(), lr=0.5).step()
    weights = whole_weights(network)
    if dist.get_rank():
        assert weights == {}
    else:
        fresh = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        fresh.load_state_dict(weights)
        assert all(type(w) is torch.Tensor for w in weights.values())
        before, name = load_file(f"{folder}/model.safetensors"), "classifier.weight"
        assert fresh.state_dict().keys() == weights.keys()
        assert not torch.equal(fresh.state_dict()[name], before[name])
        fresh.save_pretrained(f"{folder}/made")
        print("whole")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
