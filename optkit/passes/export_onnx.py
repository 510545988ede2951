"""`export-onnx`: a torch checkpoint becomes an ONNX graph, checked against torch on real inputs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact, copy_side_files
from optkit.errors import PassError, first_line
from optkit.models.architectures import refuse_no_graph
from optkit.models.text import pad_token
from optkit.passes import (
    causal_graph,
    export_check,
    fused_attention,
    graph,
    graph_times,
    seq2seq_graphs,
    torch_export,
    tower_graphs,
)
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.export_check import Check, largest_difference
from optkit.passes.one_token import keep_first_token
from optkit.passes.packed_projections import bypass_reshapes, pack
from optkit.runtimes import kv_cache
from optkit.runtimes.base import open_session
from optkit.tasks.base import Task, aligned

if TYPE_CHECKING:
    import torch


#: Examples on which the graph is compared with torch.
CHECKED = 16


@dataclass(frozen=True)
class ExportOnnx(Pass):
    """Export through torch's dynamo exporter, with dynamic batch and sequence.

    The weights stay fp32. `attention="fused"` gives one MultiHeadAttention node per layer (ONNX
    Runtime's contrib operator); `"plain"` keeps to standard ai.onnx operators, for other engines;
    `"auto"` fuses where the operator says all that the model's attention does and the graph then equals
    torch, else it stays plain; the notes say which one it was, and why (`attention_note`), and how many
    times as long that takes (`plain_over_fused`: shape → ratio) where a fused graph was there to compare.
    With fused attention, query, key and value are one multiply, and where the head reads the first
    token only, the last layer works for that token alone. A causal language model becomes one graph
    with a cache (`optkit.passes.causal_graph`), a model that writes a text from another becomes two
    (`optkit.passes.seq2seq_graphs`), and of two towers each becomes one (`optkit.passes.tower_graphs`).
    The graph is compared with torch on the data and on what `optkit.passes.export_check` makes.
    Notes: `max_difference` to torch, `checked_up_to_tokens`, `operators`, and how many were packed, and cut
    to one token. Raises PassError where the plain graph differs too.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = "fp32"
    takes_encoder_decoder: ClassVar[bool] = True
    takes_towers: ClassVar[bool] = True

    attention: str = param(
        "auto", "one fused node per layer, or plain ai.onnx", choices=("auto", "fused", "plain")
    )
    pack_projections: bool = param(True, "query, key and value as one multiply, where attention is fused")
    one_token: bool = param(True, "no work in the last layer on tokens that the head does not read")
    opset: int = param(20, "ONNX operator set", minimum=18, maximum=23)
    tolerance: float = param(1e-3, "largest allowed difference to torch, absolute plus relative", minimum=0.0)

    def check(self, checkpoint: Artifact, task: Task) -> None:
        refuse_no_graph(checkpoint.config, task.any_size)
        if task.has_encoder and self.attention == "fused":
            raise PassError(
                f"Attention of a model for {task.name} is not fused: its decoder has two caches.",
                hint='Use attention = "auto" or "plain".',
            )

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        from optkit.models.checkpoint import load_model

        context.progress("loading the checkpoint", 0.0)
        model = load_model(source, context.task.name, context.trust_remote_code)
        if context.task.has_encoder:
            context.progress("tracing and exporting", 0.2)
            operators = seq2seq_graphs.export(model, source, out, self.opset)
            context.progress("comparing with torch", 0.8)
            notes = seq2seq_graphs.check(model, out, context.encoded("validation", CHECKED), self.tolerance)
            return {"attention": "plain", **notes, "operators": dict(zip(("encoder", "decoder"), operators))}
        if context.task.has_towers:
            notes = {}
            for name, module, own in tower_graphs.towers(model, context, CHECKED):
                notes[name.partition("_")[0]] = self._export(_Export(self, module, own, source, out))
                tower_graphs.renamed(out, name)
            return notes
        return self._export(_Export(self, model, context, source, out))

    def _export(self, job: _Export) -> dict[str, Any]:
        """One graph, and the notes about it."""
        model, context = job.model, job.context
        context.progress("answering in torch", 0.1)
        job.answer_in_torch()
        reason = job.cannot_fuse() if self.attention != "plain" else ""
        if self.attention == "fused" and reason:
            raise PassError(
                f"{type(model).__name__} cannot be fused at export: {reason}.",
                hint='Use attention = "auto" or "plain".',
            )
        if self.attention != "plain" and not reason:
            context.progress("tracing and exporting", 0.2)
            try:
                return job.graph(fused=True)
            except PassError as error:
                if self.attention == "fused":
                    raise
                reason = f"the fused graph is wrong ({error})"
                job.set_aside()
        context.progress("tracing and exporting, attention plain", 0.5)
        notes = job.graph(fused=False)
        if reason:
            notes |= job.cost_of_plain(reason)
        return notes


class _Export:
    """One checkpoint on its way to a graph in the folder `out`."""

    def __init__(
        self, step: ExportOnnx, model: torch.nn.Module, context: PassContext, source: Artifact, out: Path
    ) -> None:
        from optkit.models.checkpoint import is_per_token, model_inputs, model_outputs

        self.model = self._model = model
        self.context, self._step, self._source, self._out = context, step, source, out
        self._causal = context.task.generates
        self._task = context.task
        self._any_size = context.task.any_size
        self._progress = context.progress
        self._inputs, outputs = model_inputs(model), model_outputs(model)
        self._outputs, self._per_token = list(outputs), [is_per_token(shape) for shape in outputs.values()]
        samples = context.encoded("validation", CHECKED)
        self._samples = causal_graph.checked(samples, model.config.vocab_size) if self._causal else samples
        self._checks = list(self._all_checks())
        self._expected: list[list[np.ndarray]] = []
        self._before = fused_attention.implementations(model)
        self._wrong = out / "wrong"

    def _all_checks(self) -> Iterator[Check]:
        """Texts of the data, and those about windows and sides of padding."""
        names = [*self._inputs, kv_cache.POSITIONS] if self._causal else self._inputs
        yield from export_check.of_data(self._samples, names)
        if self._any_size:
            yield from export_check.other_sizes(self._samples)
        if "input_values" in self._inputs and self._samples.ragged:
            yield from export_check.of_sound(self._samples)
        if "input_ids" in self._inputs:
            config = self._model.config.to_dict()
            names = [*names, kv_cache.KEEP] if self._causal else names
            yield from export_check.checks(config, names, pad_token(config), self._causal, self._samples)

    def answer_in_torch(self) -> None:
        """What every check expects, by the model's own attention."""
        for check in self._checks:
            try:
                self._expected.append(self._in_torch(check.feeds))
            except Exception as reason:
                raise PassError(
                    f"{type(self._model).__name__} does not answer at {check.name}: {first_line(reason)}",
                    hint="State in config.json how many tokens it takes: max_position_embeddings.",
                ) from reason

    def _in_torch(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        import torch

        with torch.no_grad():
            answer = self._model(**{n: torch.from_numpy(a) for n, a in feeds.items()}, return_dict=True)
            return [answer[name].numpy() for name in self._outputs]

    def cannot_fuse(self) -> str:
        """Switch the model to the fused attention; why it cannot be, "" where it is."""
        name = fused_attention.CACHED if self._causal else fused_attention.NAME
        return fused_attention.switch(self._model, name, lambda: self._in_torch(self._checks[0].feeds))

    def graph(self, fused: bool) -> dict[str, Any]:
        """Export, rewrite and check; the pass's notes. Raises PassError, and then the model is as it was.

        What torch's exporter makes of plain attention depends on how it is written: where the model's own way
        fails, transformers' plain one ("eager") is tried.
        """
        try:
            return self._graph(fused)
        except PassError:
            fused_attention.restore(self._before)
            if fused or self._model.config._attn_implementation == "eager":
                raise
            try:
                self._model.set_attn_implementation("eager")
                return self._graph(fused)
            except Exception:  # the first refusal says more
                fused_attention.restore(self._before)
            raise

    def set_aside(self) -> None:
        """Keep a graph that is wrong for `cost_of_plain`, out of the way of the next."""
        files = [self._out / graph.MODEL_FILE, self._out / graph.DATA_FILE]
        self._wrong.mkdir()
        for file in files:
            if file.exists():
                file.rename(self._wrong / file.name)

    def cost_of_plain(self, reason: str) -> dict[str, Any]:
        """Notes on why attention is plain, and how many times as long it takes as the fused graph, where one
        was exported: it answers wrongly, but after as much work as a right one."""
        ratios: dict[str, float] = {}
        files = (self._out / graph.MODEL_FILE, self._wrong / graph.MODEL_FILE)
        alone = [c for c in self._checks if len(next(iter(c.feeds.values()))) == 1]
        with suppress(Exception):  # a fused graph that does not even run
            for check in (alone[0], alone[-1]):
                ratios[check.name] = round(graph_times.ratio(*files, check.feeds), 2)
        shutil.rmtree(self._wrong, ignore_errors=True)
        times = " and ".join(f"{ratio:g} ({name})" for name, ratio in ratios.items())
        cost = (
            f"it takes {times} times as long as that" if ratios else "there is no fused graph to time it by"
        )
        return {
            "attention_note": f"plain, since {reason}; {cost}",
            **({"plain_over_fused": ratios} if ratios else {}),
        }

    def _graph(self, fused: bool) -> dict[str, Any]:
        step, file = self._step, self._out / graph.MODEL_FILE
        if self._causal:
            causal_graph.export(self._model, file, step.opset)
        else:
            torch_export.export(
                *(self._model, self._inputs, self._outputs, self._samples, file, step.opset), self._any_size
            )
        copy_side_files(self._source.path, self._out)
        exported = graph.load_graph(self._out)
        torch_export.strip(exported)
        torch_export.name_squeezed_axes(exported)
        packed = alone = 0
        if self._causal:
            graph.fold_transposed_weights(exported)
        elif fused:
            bypass_reshapes(exported)
            alone = keep_first_token(exported) if step.one_token else 0
            packed = pack(exported) if step.pack_projections else 0
        graph.save_graph(exported, self._out)

        self._progress("comparing with torch", 0.9)
        operators = graph.operator_counts(exported)
        tokens = max((c.real.shape[1] for c in self._checks if c.real is not None), default=None)
        return {
            **({"cache_difference": self._cache_difference()} if self._causal else {}),
            "attention": "fused"
            if fused
            else "plain"
            if {"Softmax", "Attention"} & set(operators)
            else "none",
            "max_difference": self._difference(),
            "checked_examples": len(self._samples),
            "checked_up_to_tokens": tokens,
            "inputs": [*self._inputs, kv_cache.POSITIONS] if self._causal else self._inputs,
            "packed_projections": packed,
            "one_token_operators": alone,
            "operators": operators,
        }

    def _difference(self) -> float:
        """The largest difference to torch over all checks."""
        import onnxruntime

        file = str(self._out / graph.MODEL_FILE)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

        def answer(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            outputs: list[np.ndarray] = session.run(
                self._outputs, kv_cache.selected(feeds, session.get_inputs())
            )
            return outputs

        tolerance, names = self._step.tolerance, ("torch", "the exported graph")
        source, per_token = self._in_plain_torch, self._per_token
        return largest_difference(
            *(self._checks, self._expected, answer, source, per_token, tolerance, names), self._aligned
        )

    def _aligned(self, right: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> list[np.ndarray]:
        return aligned(self._task, self._outputs, right, others)

    def _in_plain_torch(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """What the model answers by its own attention, whichever is set."""
        now = fused_attention.implementations(self._model)
        fused_attention.restore(self._before)
        try:
            return self._in_torch(feeds)
        finally:
            fused_attention.restore(now)

    def _cache_difference(self) -> float:
        with open_session(Artifact(self._out, {"format": "onnx"})) as session:
            return causal_graph.cache_difference(session, self._samples, self._step.tolerance)
