"""`open-vino-stateful`: a causal language model for OpenVINO, its cache a state, its weights in few bits."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact, copy_side_files
from optkit.data.examples import EncodedSet
from optkit.errors import DataError, MissingDependency, PassError
from optkit.models.architectures import refuse_no_graph
from optkit.models.text import pad_token
from optkit.passes import causal_graph, export_check
from optkit.passes.base import Pass, PassContext, param
from optkit.passes.export_check import Check, largest_difference
from optkit.passes.open_vino import MODEL_FILE, save
from optkit.runtimes import kv_cache, openvino_stateful
from optkit.runtimes.base import open_session
from optkit.runtimes.vino_core import core
from optkit.tasks.base import Task

if TYPE_CHECKING:
    import openvino
    import torch

#: Examples on which the model in fp32 is compared with torch.
CHECKED = 4


@dataclass(frozen=True)
class OpenVinoStateful(Pass):
    """Convert a causal language model for OpenVINO, with its cache as a state, and weights in 8 or 4 bits.

    The model in fp32 is compared with torch before its weights are rounded. INT8 has a scale for each output
    of a layer; INT4 one for each `group` of its inputs, embeddings and head stay INT8, and with `ratio` below
    1 so do the layers that bear INT4 worst. With `awq`, `scale_estimation` or `gptq` INT4 is fitted to
    the activations of training texts, by NNCF. The tables of embeddings and head stay one where they were.
    openvino-genai loads the result beside its own tokenizer.
    Notes: `max_difference` to torch in fp32, `compressed`: type → how many weights.
    """

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "openvino"
    runtime: ClassVar[str | None] = "openvino"

    weights: str = param("int8", "what weights are stored in", choices=("fp32", "int8", "int4"))
    group: int = param(64, "INT4: weights that share a scale", choices=(32, 64, 128))
    ratio: float = param(1.0, "INT4: share of the layers in it, by size", minimum=0.0, maximum=1.0)
    symmetric: bool = param(False, "no zero point")
    awq: bool = param(False, "INT4: scale channels by their activations first (Lin et al. 2023)")
    scale_estimation: bool = param(False, "INT4: choose scales that change the outputs least")
    gptq: bool = param(False, "INT4: round each weight by the error of those before (Frantar et al. 2022)")
    samples: int = param(64, "training texts to fit to", minimum=1)
    activations: str = param(
        "int8",
        "what is multiplied with few-bit weights: rounded in groups of 32, or left",
        choices=("int8", "float"),
    )
    cache: str = param("u8", "what keys and values are stored in", choices=("f32", "f16", "u8", "u4"))
    tolerance: float = param(1e-3, "largest difference to torch in fp32, absolute plus relative", minimum=0.0)

    @property
    def fitted(self) -> bool:
        """Whether it reads training texts."""
        return self.weights == "int4" and (self.awq or self.scale_estimation or self.gptq or self.ratio < 1)

    def precision_of(self, source: Artifact) -> str | None:
        return "fp32" if self.weights == "fp32" else "weight-only"

    def runtime_options(self, notes: dict[str, Any]) -> dict[str, Any]:
        """Without rounding, what fp32 promises."""
        if self.weights == "fp32":
            return {"kv_cache": "f32", "activations": "float"}
        return {"kv_cache": self.cache, "activations": self.activations}

    def check(self, checkpoint: Artifact, task: Task) -> None:
        refuse_no_graph(checkpoint.config, task.any_size)
        if not task.generates or task.has_encoder:
            raise PassError(
                f"open-vino-stateful takes causal language models, received a model for {task.name}.",
                hint="open-vino-int8 takes other models, behind export-onnx.",
            )

    def run(self, source: Artifact, out: Path, context: PassContext) -> dict[str, Any]:
        from optkit.models.checkpoint import load_model

        try:
            os.environ["NNCF_CI"] = "1"  # NNCF reports its use to its makers unless this is set
            import nncf
        except ImportError:
            raise MissingDependency.of("nncf", "openvino") from None
        from optkit.passes import stateful_graph

        context.progress("loading the checkpoint", 0.0)
        model = load_model(source, context.task.name, context.trust_remote_code)
        samples = causal_graph.checked(context.encoded("validation", CHECKED), model.config.vocab_size)
        context.progress("answering in torch", 0.05)
        checks, expected = _answers(model, source, samples)
        context.progress("tracing and converting", 0.1)
        converted = stateful_graph.convert(model)
        save(converted, out)
        copy_side_files(source.path, out)
        context.progress("comparing with torch", 0.5)
        notes: dict[str, Any] = {
            "max_difference": _difference(out, checks, expected, self.tolerance),
            "checked_up_to_tokens": max(c.feeds["input_ids"].shape[1] for c in checks),
        }
        del model
        if self.weights != "fp32":
            context.progress("rounding weights", 0.6)
            texts = context.encoded("train", self.samples) if self.fitted else None
            nncf.set_log_level(logging.ERROR)
            save(self._compressed(converted, texts), out)
            notes["compressed"] = compressed_weights(out)
        return notes

    def _compressed(self, model: openvino.Model, texts: EncodedSet | None) -> openvino.Model:
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedCompressionParameters, GroupSizeFallbackMode

        modes, kind = nncf.CompressWeightsMode, "SYM" if self.symmetric else "ASYM"
        options: dict[str, Any] = {}
        if self.weights == "int4":
            options = {"group_size": self.group, "ratio": self.ratio}
            smaller = GroupSizeFallbackMode.ADJUST  # where a layer's inputs are no multiple of the group
            options["advanced_parameters"] = AdvancedCompressionParameters(group_size_fallback_mode=smaller)
        if texts is not None:
            if len(texts) == 0:
                raise DataError("INT4 that is fitted to activations needs training texts, received none.")
            short = texts.cut(causal_graph.CHECKED_TOKENS)
            rows = [openvino_stateful.feeds(short.batch([i])) for i in range(len(short))]
            for row in rows:
                del row[kv_cache.KEEP]  # an input that the runtime adds
            options |= {"dataset": nncf.Dataset(rows), "subset_size": len(rows), "awq": self.awq}
            options |= {"scale_estimation": self.scale_estimation, "gptq": self.gptq}
        try:
            return nncf.compress_weights(model, mode=modes[f"{self.weights.upper()}_{kind}"], **options)
        except Exception as reason:
            raise PassError(
                f"NNCF could not round the weights: {type(reason).__name__}: {reason}"
            ) from reason


def _answers(
    model: torch.nn.Module, source: Artifact, samples: EncodedSet
) -> tuple[list[Check], list[list[np.ndarray]]]:
    """What is asked, of the data and around windows and padding, and torch's logits."""
    import torch

    names = ["input_ids", "attention_mask", kv_cache.POSITIONS]
    checks = export_check.of_data(samples, names)
    checks += export_check.checks(source.config, [*names, kv_cache.KEEP], pad_token(source.config), True)
    expected = []
    for check in checks:
        with torch.no_grad():
            answer = model(**{name: torch.from_numpy(a) for name, a in check.feeds.items()}, return_dict=True)
        expected.append([answer.logits.numpy()])
    return checks, expected


def _difference(
    folder: Path, checks: list[Check], expected: list[list[np.ndarray]], tolerance: float
) -> float:
    """The largest difference to torch of the model in `folder`: texts at once, and in two steps."""
    artifact = Artifact(folder, {"format": "openvino"})
    with open_session(artifact, kv_cache="f32", activations="float") as session:

        def answer(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [session.infer(feeds)["logits"]]

        names = ("torch", "the OpenVINO model")
        apart = largest_difference(checks, expected, answer, answer, [True], tolerance, names)
        alone = EncodedSet(
            {"input_ids": [c.feeds["input_ids"][0] for c in checks if len(c.feeds["input_ids"]) == 1]}, {}
        )
        return max(apart, causal_graph.cache_difference(session, alone, tolerance))


def compressed_weights(folder: Path) -> dict[str, int]:
    """Type of a stored weight → how many weights are of it, in the model in `folder`."""
    model, counts = core().read_model(str(folder / MODEL_FILE)), Counter[str]()
    for op in model.get_ops():
        if op.get_type_name() == "Constant" and len(op.shape) > 1:
            counts[op.get_element_type().get_type_name()] += math.prod(op.shape)
    return dict(counts.most_common())
