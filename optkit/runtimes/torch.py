"""Torch: the baseline every factor is measured against, and the runtime of `hf` artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, MissingDependency, OptkitError, did_you_mean, first_line
from optkit.models.architectures import infer_task
from optkit.models.limits import token_limit
from optkit.models.pixels import PixelEncoder
from optkit.models.sound import SoundEncoder
from optkit.models.task import TASKS
from optkit.runtimes.base import Decoder, Feeds, Session, Setting, TensorSpec
from optkit.runtimes.cuda.buckets import cut, fill, rounded
from optkit.runtimes.kv_cache import positions
from optkit.runtimes.settings import COUNTS

if TYPE_CHECKING:
    import torch


DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
ATTENTION = ("sdpa", "eager")
#: torchao's configuration of each kind: activations are quantized at run time, by row.
QUANTIZERS = {
    "int8": "Int8DynamicActivationInt8WeightConfig",
    "fp8": "Float8DynamicActivationFloat8WeightConfig",
}
#: Widths that the 8-bit matrix units take.
_WIDTH = 16
#: A compiled model is recorded once per bucket; beyond these limits a shape is taken as it is.
_BUCKET, _MOST = 32, (1024, 8192)


class TorchSession(Session):
    """The checkpoint in evaluation mode, under `torch.inference_mode`.

    `device` is cpu or cuda (cuda:1, ...); `dtype` fp32, fp16 or bf16; `attention` sdpa or eager (None:
    the model's own choice). `compile` runs it through `torch.compile`; on CUDA with mode
    "reduce-overhead", which records CUDA graphs, one per shape, and shapes are rounded up so that there
    are few. `quantize` (int8, fp8) turns the linear layers to torchao's 8-bit ones, which need
    `compile` to be fast. `task` names what the model is for (None: the manifest or the architecture tells).
    Outputs are fp32 in any case.
    """

    package: ClassVar[str] = "torch"
    extra: ClassVar[str] = "compress"
    stored: ClassVar[Mapping[str, Sequence[Any] | type]] = {
        "threads": COUNTS,
        "device": ("cpu", "cuda"),
        "dtype": tuple(DTYPES),
        "attention": ATTENTION,
        "compile": (True, False),
        "quantize": tuple(QUANTIZERS),
    }

    def __init__(
        self,
        artifact: Artifact,
        threads: int | None = None,
        trust_remote_code: bool = False,
        device: str = "cpu",
        dtype: str = "fp32",
        attention: str | None = None,
        compile: bool = False,
        quantize: str | None = None,
        task: str | None = None,
    ) -> None:
        import torch

        from optkit.models.checkpoint import load_model, model_inputs, model_outputs, task_of_model

        _check("dtype", dtype, DTYPES)
        if attention is not None:
            _check("attention", attention, ATTENTION)
        if quantize is not None:
            _check("quantize", quantize, QUANTIZERS)
        self._cuda = device.split(":")[0] == "cuda"
        self.device = "cuda" if self._cuda else "cpu"
        if self._cuda and not torch.cuda.is_available():
            raise OptkitError(
                "Expected a GPU that torch can use, received none.",
                hint="Check nvidia-smi, and that torch was installed with CUDA.",
            )
        if threads:
            torch.set_num_threads(threads)
        self._torch, self._where, self._dtype = torch, device, getattr(torch, DTYPES[dtype])
        model = load_model(artifact, task, trust_remote_code)
        if attention is not None:
            model.set_attn_implementation(attention)
        model = model.to(device=device, dtype=self._dtype)
        self._longest = token_limit(model.config.to_dict())
        self.inputs = tuple(_input(name, artifact.path) for name in model_inputs(model))
        outputs = model_outputs(model)
        self._generates = TASKS[task_of_model(model)].generates and not compile
        self.outputs = tuple(TensorSpec(name, "float32", shape) for name, shape in outputs.items())
        if quantize is not None:
            _quantize(model, quantize)
        self._buckets = compile and self._cuda
        if compile:
            mode = "reduce-overhead" if self._cuda else "default"
            if self._cuda:  # the default of 8 shapes ends in eager mode with no more than a log line
                torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 256)
            model = torch.compile(model, mode=mode, dynamic=False if self._cuda else None)
        self._model = model

    def infer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        feeds = self.select(feeds)
        if not self._buckets or "attention_mask" not in feeds:
            return self._answer(feeds)
        batch, tokens = feeds["attention_mask"].shape
        longest = min(_MOST[1], self._longest or _MOST[1])
        padded = fill(feeds, *rounded(batch, tokens, (_MOST[0], longest), _BUCKET))
        return cut(self._answer(padded), self.per_token(), batch, tokens)

    def _answer(self, feeds: Mapping[str, np.ndarray]) -> Feeds:
        with self._torch.inference_mode():
            tensors = {name: self._tensor(a) for name, a in feeds.items()}
            try:
                answer = self._model(**tensors, return_dict=True)
            except IndexError as reason:  # an embedding of fewer tokens than the tokenizer knows
                raise CheckpointError(
                    f"The model cannot answer: {first_line(reason)}.",
                    hint="The tokenizer and the weights do not fit each other; save both from one model.",
                ) from reason
            # .cpu() waits for the device: the answer is ready on return
            return {spec.name: answer[spec.name].float().cpu().numpy() for spec in self.outputs}

    def synchronize(self) -> None:
        if self._cuda:
            self._torch.cuda.synchronize(self._where)

    def mark(self) -> torch.cuda.Event | None:
        if not self._cuda:
            return None
        event = self._torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed_ms(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        return float(begin.elapsed_time(end))

    def decoder(self) -> Decoder:
        if not self._generates:
            return super().decoder()
        return TorchDecoder(self._model, self._tensor)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = self._torch.from_numpy(array).to(self._where)
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def close(self) -> None:
        self._model = None


class TorchDecoder(Decoder):
    """The checkpoint with transformers' own cache."""

    def __init__(self, model: torch.nn.Module, tensor: Callable[[np.ndarray], torch.Tensor]) -> None:
        self._model, self._tensor, self._cache = model, tensor, None

    def step(self, tokens: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            answer = self._model(
                input_ids=self._tensor(tokens),
                attention_mask=self._tensor(attention_mask),
                position_ids=self._tensor(positions(attention_mask, tokens.shape[1])),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
                return_dict=True,
            )
        self._cache = answer.past_key_values
        return answer.logits[:, -1].float().cpu().numpy()


def open_session(artifact: Artifact, **options: Setting) -> TorchSession:
    task = TASKS[options.get("task") or infer_task(artifact)].of(artifact.config)
    if task.has_encoder:
        from optkit.runtimes.torch_seq2seq import TorchSeq2Seq

        return TorchSeq2Seq(artifact, **options)
    if task.has_towers:
        from optkit.runtimes.torch_towers import TorchTowers

        return TorchTowers(artifact, **options)
    return TorchSession(artifact, **options)


def _input(name: str, folder: Path) -> TensorSpec:
    if name in ("input_values", "input_features"):
        return TensorSpec(name, "float32", ("batch", *SoundEncoder(folder).shape))
    if name == "bbox":
        return TensorSpec(name, "int64", ("batch", "sequence", 4))
    if name != "pixel_values":
        return TensorSpec(name, "int64", ("batch", "sequence"))
    images = PixelEncoder(folder)
    sides = ("height", "width") if images.varies else images.size
    return TensorSpec(name, "float32", ("batch", images.channels, *sides))


def _quantize(model: torch.nn.Module, kind: str) -> None:
    """Replace the linear layers that 8-bit matrix units take; heads of few outputs stay."""
    try:
        import torchao.quantization as quantization
    except ImportError as reason:
        raise MissingDependency.of("torchao", "torchao") from reason
    from torch.nn import Linear

    def fits(module: torch.nn.Module, name: str) -> bool:
        return (
            isinstance(module, Linear)
            and module.in_features % _WIDTH == 0
            and module.out_features % _WIDTH == 0
        )

    quantization.quantize_(model, getattr(quantization, QUANTIZERS[kind])(), filter_fn=fits)


def _check(option: str, received: str, known: Iterable[str]) -> None:
    if received not in known:
        raise OptkitError(
            f"Expected {option} to be one of {', '.join(known)}, received {received!r}.",
            hint=did_you_mean(received, known),
        )
