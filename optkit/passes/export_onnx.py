"""`export-onnx`: a torch checkpoint becomes an ONNX graph, checked against torch on real inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optkit import kv_cache
from optkit.architectures import refuse_no_graph
from optkit.artifact import Artifact, copy_side_files
from optkit.errors import PassError
from optkit.examples import EncodedSet
from optkit.passes import causal_graph, fused_attention, graph
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.one_token import keep_first_token
from optkit.passes.packed_projections import bypass_reshapes, pack
from optkit.session import open_session
from optkit.task import Task

#: Examples on which the graph is compared with torch.
CHECKED = 16


@dataclass(frozen=True)
class ExportOnnx(Pass):
    """Export through torch's dynamo exporter, with dynamic batch and sequence.

    The weights stay fp32. `attention="fused"` gives one MultiHeadAttention node per layer (ONNX
    Runtime's contrib operator); `"plain"` keeps to standard ai.onnx operators, for other engines;
    `"auto"` fuses where the architecture allows it and says in the notes which one it was.
    With fused attention, query, key and value are one multiply, and where the head reads the first
    token only, the last layer works for that token alone. A causal language model becomes one graph
    with a cache (`optkit.passes.causal_graph`).
    Notes: `max_difference` to torch over the checked examples, `operators`, and how many were packed,
    and cut to one token.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "fp32"

    attention: str = param(
        "auto", "one fused node per layer, or plain ai.onnx", choices=("auto", "fused", "plain")
    )
    pack_projections: bool = param(True, "query, key and value as one multiply, where attention is fused")
    one_token: bool = param(True, "no work in the last layer on tokens that the head does not read")
    opset: int = param(20, "ONNX operator set", minimum=18, maximum=23)
    tolerance: float = param(1e-3, "largest allowed difference to torch, absolute plus relative", minimum=0.0)

    def check(self, checkpoint: Artifact, task: Task) -> None:
        refuse_no_graph(checkpoint.config)

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        from optkit.checkpoint import load_model, model_inputs, model_outputs

        context.progress("loading the checkpoint", 0.0)
        model = load_model(source, context.task.name, context.trust_remote_code)
        names, results = model_inputs(model), list(model_outputs(model))
        samples = context.encoded("validation", CHECKED)
        causal = context.task.generates
        if causal:
            samples, names = causal_graph.checked(samples), [*names, kv_cache.POSITIONS]
        expected = [_torch_outputs(model, feeds, results) for feeds in _checks(samples, names)]

        context.progress("tracing and exporting", 0.2)
        fused = self.attention != "plain" and _try_fuse(
            model, fused_attention.CAUSAL if causal else fused_attention.NAME
        )
        if self.attention == "fused" and not fused:
            raise PassError(
                f"{type(model).__name__} does not take its attention from transformers' AttentionInterface, "
                "so it cannot be fused at export.",
                hint='Use attention = "auto" or "plain".',
            )
        if causal:
            causal_graph.export(model, out / graph.MODEL_FILE, self.opset)
        else:
            _export(model, names, results, samples, out / graph.MODEL_FILE, self.opset)
        copy_side_files(source.path, out)
        exported = graph.load_graph(out)
        _strip(exported)
        packed = alone = 0
        if causal:
            graph.fold_transposed_weights(exported)
        elif fused:
            bypass_reshapes(exported)
            alone = keep_first_token(exported) if self.one_token else 0
            packed = pack(exported) if self.pack_projections else 0
        graph.save_graph(exported, out)

        context.progress("comparing with torch", 0.9)
        found = _onnx_outputs(out, _checks(samples, names), results)
        difference = max(
            _compare([e[i] for e in expected], [f[i] for f in found], self.tolerance)
            for i in range(len(results))
        )
        return {
            **({"cache_difference": _cache_difference(out, samples, self.tolerance)} if causal else {}),
            "attention": "fused" if fused else "plain",
            "max_difference": difference,
            "checked_examples": len(samples),
            "inputs": names,
            "packed_projections": packed,
            "one_token_operators": alone,
            "operators": graph.operator_counts(exported),
        }


def _checks(samples: EncodedSet, names: list[str]) -> list[dict[str, np.ndarray]]:
    """One padded batch of all samples, and the shortest alone: both kinds of mask are seen."""
    everything = np.arange(len(samples))
    alone = np.argsort(samples.lengths)[:1]
    return [{n: samples.batch(indices)[n] for n in names} for indices in (everything, alone)]


def _try_fuse(model: Any, name: str = fused_attention.NAME) -> bool:
    """Switch the model to the fused attention where all of its attention goes through the interface."""
    fused_attention.register()
    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(name)
    except (ValueError, NotImplementedError):
        return False
    if model.config._attn_implementation != name:
        model.set_attn_implementation(before)
        return False
    return True


def _export(
    model: Any, names: list[str], results: list[str], samples: EncodedSet, file: Path, opset: int
) -> None:
    import torch

    class Positional(torch.nn.Module):
        """The exporter numbers inputs by position; Hugging Face models take them by name."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            answer = self.model(**dict(zip(names, inputs)), return_dict=True)
            return tuple(answer[name] for name in results)

    feeds = samples.batch(np.argsort(samples.lengths)[-2:])
    # A batch of one would be taken for a constant.
    inputs = tuple(torch.from_numpy(np.repeat(feeds[n], 2, axis=0)[:2]) for n in names)
    batch = torch.export.Dim("batch", min=1, max=65536)
    sequence = torch.export.Dim("sequence", min=1, max=_longest(model))
    shapes = tuple({0: batch} if n == "pixel_values" else {0: batch, 1: sequence} for n in names)
    program = torch.onnx.export(
        Positional().eval(),
        inputs,
        dynamo=True,
        dynamic_shapes={"inputs": shapes},
        input_names=names,
        output_names=results,
        opset_version=opset,
        optimize=True,
        verbose=False,
    )
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    program.save(str(file), external_data=size > graph.EXTERNAL_BYTES)


def _longest(model: Any) -> int:
    positions = getattr(model.config, "max_position_embeddings", None)
    reserved = (model.config.pad_token_id or 0) + 1 if "roberta" in model.config.model_type else 0
    return positions - reserved if isinstance(positions, int) and positions > 0 else 2**20


def _strip(model: Any) -> None:
    """Remove the exporter's provenance notes: they hold file paths and add 2% to a small INT8 file."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.metadata_props[:]


def _torch_outputs(model: Any, feeds: dict[str, np.ndarray], results: list[str]) -> list[np.ndarray]:
    import torch

    with torch.inference_mode():
        answer = model(**{n: torch.from_numpy(a) for n, a in feeds.items()}, return_dict=True)
        return [answer[name].numpy() for name in results]


def _onnx_outputs(
    folder: Path, batches: list[dict[str, np.ndarray]], results: list[str]
) -> list[list[np.ndarray]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / graph.MODEL_FILE), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    return [session.run(results, kv_cache.selected(feeds, inputs)) for feeds in batches]


def _cache_difference(folder: Path, samples: EncodedSet, tolerance: float) -> float:
    with open_session(Artifact(folder, {"format": "onnx"})) as session:
        return causal_graph.cache_difference(session, samples, tolerance)


def _compare(expected: list[np.ndarray], found: list[np.ndarray], tolerance: float) -> float:
    worst = 0.0
    for a, b in zip(expected, found):
        graph.refuse_non_finite({"output": a}, "The checkpoint in torch")
        graph.refuse_non_finite({"output": b}, "The exported graph")
        difference = np.abs(a - b)
        worst = max(worst, float(difference.max()))
        if (difference > tolerance * (1 + np.abs(a))).any():
            raise PassError(
                f"Expected the exported graph to equal torch within {tolerance:g}, received a difference "
                f"of {worst:.3g}.",
                hint='Try attention = "plain"; if that differs too, raise tolerance knowingly.',
            )
    return worst
