"""The two towers of a model (CLIP, SigLIP) as torch modules of their own, each of which becomes a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optkit.data.examples import EncodedSet
from optkit.data.provoking import TEXTS
from optkit.models.task import Shape
from optkit.passes import fused_attention, graph
from optkit.passes.base import PassContext
from optkit.runtimes.torch_towers import scale_and_bias
from optkit.runtimes.towers import IMAGE, IMAGE_OUTPUTS, PIXELS, TEXT, TEXT_OUTPUTS, rows_of

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    from optkit.tasks.base import Task


def towers(
    model: torch.nn.Module, context: PassContext, count: int
) -> Iterator[tuple[str, torch.nn.Module, PassContext]]:
    """For each graph its name, the module that it is of, and a context that gives what that reads of `count`
    examples."""
    rows, attention = rows_of(context.encoded("validation", count)), fused_attention.implementations(model)
    for name, module in ((TEXT, _text(model, list(rows[TEXT].arrays))), (IMAGE, _image(model))):
        samples = rows[name].take(range(min(count, len(rows[name]))))
        yield name, module.eval(), replace(context, encoded=partial(_always, samples))
        fused_attention.restore(attention)


def calibration_rows(samples: EncodedSet, task: Task) -> dict[str, EncodedSet]:
    """As `rows_of`, with built-in texts beside those of `samples`: labels are few, and ranges that were seen
    on these alone would cut what other texts reach."""
    read = rows_of(samples)
    if read:
        built_in = task.encode([{"text": text} for text in TEXTS if text.strip()])
        read[TEXT] = read[TEXT].and_also(rows_of(built_in)[TEXT])
    return read


def _always(samples: EncodedSet, split: str, limit: int | None) -> EncodedSet:
    return samples


def renamed(out: Path, name: str) -> None:
    """Give the graph that was just written into `out` its name, and its nodes names that the other tower's
    have not: passes name what stays in float."""
    model = graph.load_graph(out)
    for node in model.graph.node:
        node.name = f"{name.partition('_')[0]}/{node.name}"
    graph.save_graph(model, out, name)
    for file in (graph.MODEL_FILE, graph.DATA_FILE):
        (out / file).unlink(missing_ok=True)


def tower_config(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The part of config.json that describes the model of the graph `name`; all of it for other models.

    >>> tower_config({"text_config": {"hidden_size": 8}}, TEXT)
    {'hidden_size': 8}
    """
    part: dict[str, Any] = config.get(f"{name.partition('_')[0]}_config", config)
    return part


def is_of_another_tower(node: str, name: str) -> bool:
    """Whether `node` is, by its name, of the other graph beside `name`, as `renamed` called it."""
    if name not in (TEXT, IMAGE):
        return False
    other = IMAGE if name == TEXT else TEXT
    return node.startswith(f"{other.partition('_')[0]}/")


def _text(model: torch.nn.Module, inputs: list[str]) -> torch.nn.Module:
    def read(**feeds: torch.Tensor) -> tuple[torch.Tensor, ...]:
        vectors = model.get_text_features(**feeds).pooler_output
        return vectors, *scale_and_bias(model, vectors.shape[0])

    shapes: tuple[Shape, ...] = (("batch", "width"), ("batch",), ("batch",))
    return _tower(model, model.config.text_config, inputs, dict(zip(TEXT_OUTPUTS, shapes)), read)


def _image(model: torch.nn.Module) -> torch.nn.Module:
    def read(**feeds: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (model.get_image_features(**feeds).pooler_output,)

    outputs: dict[str, Shape] = dict.fromkeys(IMAGE_OUTPUTS, ("batch", "width"))
    return _tower(model, model.config.vision_config, [PIXELS], outputs, read)


def _tower(
    whole: torch.nn.Module,
    config: PretrainedConfig,
    inputs: list[str],
    outputs: dict[str, Shape],
    read: Callable[..., tuple[torch.Tensor, ...]],
) -> torch.nn.Module:
    import torch

    class Tower(torch.nn.Module):
        """Its `config`, `inputs` and `outputs` are those of one tower."""

        def __init__(self) -> None:
            super().__init__()
            self.model, self.config, self.inputs, self.outputs = whole, config, inputs, outputs
            self.optkit_task = whole.optkit_task

        def set_attn_implementation(self, name: str) -> None:
            self.model.set_attn_implementation(name)

        def forward(self, return_dict: bool = True, **feeds: torch.Tensor) -> dict[str, torch.Tensor]:
            return dict(zip(outputs, read(**feeds)))

    return Tower()
