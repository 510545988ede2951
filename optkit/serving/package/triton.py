"""`triton`: a model repository for NVIDIA's Triton Inference Server.

Two models: NAME-tensors is the graph itself, for clients that send token ids; NAME takes texts. NAME is a
Python backend that calls NAME-tensors (business logic scripting): Triton hands it the texts of several
requests at once, it pads them together, and calls the graph once. An ensemble could batch only texts
that happen to have the same number of tokens. Only a task whose answer is the graph's own output, or one
label, has NAME: entities and answers need offsets and windows, which Triton's tensors do not carry.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from optkit.core.artifact import Artifact
from optkit.core.files import write_json
from optkit.errors import CheckpointError, RecipeError
from optkit.runtimes.base import TensorSpec, open_session
from optkit.serving.package.bom import NAME, write_bom
from optkit.serving.package.requirements import pinned
from optkit.tasks.base import Field, open_task

#: Artifact format → (Triton's backend, the name it wants the model file to have).
BACKENDS = {
    "onnx": ("onnxruntime", "model.onnx"),
    "openvino": ("openvino", "model.xml"),
    "tensorrt": ("tensorrt", "model.plan"),
}
_TYPES = {
    "int64": "TYPE_INT64",
    "int32": "TYPE_INT32",
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
}
MAX_BATCH, MAX_DELAY_US = 64, 2000
_SCRIPT = Path(__file__).with_name("triton_backend") / "model.py"


def write(artifact: Artifact, folder: Path, name: str, version: str) -> str:
    backend, file = BACKENDS[artifact.format]
    number = version.split(".")[0]
    if number == "0":
        raise CheckpointError("Triton numbers versions from 1, received 0.", hint="Give --version 1.")
    task = open_task(artifact)
    if task.generates or task.has_encoder:
        raise RecipeError(
            f"Expected a model that answers in one call, received {task.name}: a cache lives between calls.",
            hint="Serve it with optkit serve, or package it for docker.",
        )
    if task.has_towers:
        raise RecipeError(
            f"Expected a model of one graph, received {task.name}, which has two towers.",
            hint="Serve it with optkit serve, or package it for docker.",
        )
    with open_session(artifact) as session:
        inputs, outputs = session.inputs, session.outputs
    inner, outer = folder / f"{name}-tensors", folder / name
    _place(artifact, inner / number, file)
    config = tensors_config(f"{name}-tensors", backend, inputs, outputs)
    (inner / "config.pbtxt").write_text(config, encoding="utf-8")
    takes_text = any(spec.name == "input_ids" for spec in inputs)
    if takes_text and task.graph_answers:
        (outer / number).mkdir(parents=True)
        shutil.copyfile(_SCRIPT, outer / number / "model.py")
        encoder = task.encoder
        encoder.save(outer / number / "tokenizer.json")
        settings = {
            "model": f"{name}-tensors",
            "texts": [field.name for field in task.takes],
            "inputs": [spec.name for spec in inputs],
            "outputs": [spec.name for spec in outputs],
            "max_tokens": encoder.max_length,
            "truncation_side": encoder.truncation_side,
            "split_special_tokens": encoder.tokenization.split_special_tokens,
            "gives_types": encoder.gives_types,
            "pad_id": encoder.pad_id,
            "prompt": task.prompt,
            "labels": task.class_names,
        }
        write_json(outer / number / "settings.json", settings)
        config = text_config(name, task.takes, outputs, bool(settings["labels"]))
        (outer / "config.pbtxt").write_text(config, encoding="utf-8")
    backends = {line for line in pinned(set()) if line.startswith(("numpy=", "tokenizers="))}
    needed = sorted(backends) if outer.exists() else []
    (folder / NAME).write_bytes(write_bom(artifact, name, version, "triton", needed))
    return "tritonserver --model-repository OUT   (its Python needs tokenizers: pip install tokenizers)"


def wrote(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} - {NAME}
    inner = next((name for name in names if name.endswith("-tensors")), "")
    if not inner or names - {inner, inner.removesuffix("-tensors")}:
        return False
    return all((folder / name / "config.pbtxt").is_file() for name in names)


def tensors_config(
    name: str, backend: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> str:
    """config.pbtxt of the graph. Source: Triton's model_config.proto."""
    return "\n".join(
        [
            f'name: "{name}"',
            f'backend: "{backend}"',
            f"max_batch_size: {MAX_BATCH}",
            *_tensors("input", inputs),
            *_tensors("output", outputs),
            f"dynamic_batching {{ max_queue_delay_microseconds: {MAX_DELAY_US} }}",
            "",
        ]
    )


def text_config(
    name: str, takes: tuple[Field, ...], outputs: tuple[TensorSpec, ...], classifies: bool
) -> str:
    """config.pbtxt of the Python model: texts in, the graph's outputs and, for a classifier, labels out."""
    texts = [(x.name, "" if x.required else " optional: true") for x in takes]
    extra: tuple[TensorSpec, ...] = ()
    if classifies:
        extra = (TensorSpec("label", "string", ("batch", 1)), TensorSpec("score", "float32", ("batch", 1)))
    return "\n".join(
        [
            f'name: "{name}"',
            'backend: "python"',
            f"max_batch_size: {MAX_BATCH}",
            *(
                f'input {{ name: "{x}" data_type: TYPE_STRING dims: [ 1 ]{optional} }}'
                for x, optional in texts
            ),
            *_tensors("output", (*outputs, *extra)),
            f"dynamic_batching {{ max_queue_delay_microseconds: {MAX_DELAY_US} }}",
            "instance_group { count: 1 kind: KIND_CPU }",
            "",
        ]
    )


def _tensors(kind: str, specs: tuple[TensorSpec, ...]) -> list[str]:
    """The first dimension is the batch, which Triton leaves out; dynamic ones are -1."""
    types = {**_TYPES, "string": "TYPE_STRING"}
    lines = []
    for spec in specs:
        dims = ", ".join(str(d) if isinstance(d, int) else "-1" for d in spec.shape[1:])
        if spec.dtype not in types or not re.fullmatch(r"[\w./:-]+", spec.name):
            raise CheckpointError(
                f"Expected tensors of {', '.join(_TYPES)} with plain names for Triton, "
                f"received {spec.name!r} ({spec.dtype}).",
                hint="Package it for docker, or export the model again.",
            )
        lines.append(f'{kind} {{ name: "{spec.name}" data_type: {types[spec.dtype]} dims: [ {dims} ] }}')
    return lines


def _place(artifact: Artifact, target: Path, name: str) -> None:
    """The model under the name that the backend wants; what lies beside it (weights) under its own."""
    target.mkdir(parents=True)
    for file in artifact.model_files:
        main = file.suffix in (".onnx", ".xml", ".engine", ".plan")
        renamed = name if main else f"model{file.suffix}" if file.suffix == ".bin" else file.name
        shutil.copyfile(file, target / renamed)
