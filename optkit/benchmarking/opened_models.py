"""What `optkit bench` takes: an artifact, a checkpoint or a bare .onnx file, made ready to measure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optkit.benchmarking.plan import Candidate
from optkit.core.artifact import MANIFEST, SCHEMA, SIDE_FILES, Artifact, library_versions, listing
from optkit.core.files import write_json
from optkit.data.audio import clip
from optkit.data.examples import EncodedSet
from optkit.errors import CheckpointError, RecipeError, did_you_mean
from optkit.models import tokenization
from optkit.models.checkpoint import fetch
from optkit.models.limits import token_limit
from optkit.models.pixels import input_shape
from optkit.models.sound import SoundEncoder, hears
from optkit.runtimes import RUNTIMES
from optkit.runtimes.settings import DEFAULT_RUNTIME, chosen_runtime

if TYPE_CHECKING:
    import onnx


#: Random examples, and the longest of them, where there is no data.
RANDOM_EXAMPLES, RANDOM_TOKENS = 64, 128
#: Vocabulary assumed where neither config.json nor the graph tells it.
RANDOM_IDS = 1000
_INT8 = {"MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul", "DequantizeLinear", "QAttention"}


def reads_text(model: Candidate) -> bool:
    """Whether data can be read for it: its tokenizer or its processor lies beside it."""
    folder = Path(model.artifact)
    reads = tokenization.is_there(folder) or any((folder / name).exists() for name in tokenization.PROCESSORS)
    return reads and (folder / "config.json").exists()


def takes_images(model: Candidate) -> bool:
    return _pixels(model) is not None


def takes_sound(model: Candidate) -> bool:
    return hears(Path(model.artifact))


def reader_of(model: Candidate) -> str:
    """What turns texts into its inputs, as a hash: equal for models that take the same ones."""
    folder = Path(model.artifact)
    return f"{tokenization.reader(folder)} {Artifact.open(folder).config.get('model_type')}"


def open_model(
    text: str, scratch: Path, trust_remote_code: bool = False, verify_key: str | Path | None = None
) -> Candidate:
    """`text` is PATH or PATH@RUNTIME; a bare .onnx file becomes an artifact under `scratch`.

    Raises CheckpointError for what is no model, RecipeError for a runtime that does not exist.
    """
    path, at, runtime = text.rpartition("@")
    if not at or os.path.exists(text):
        path, runtime = text, ""
    if runtime and runtime not in RUNTIMES:
        raise RecipeError(f"Unknown runtime {runtime!r}.", hint=did_you_mean(runtime, RUNTIMES))
    file = Path(path)
    if file.suffix == ".onnx":
        if verify_key is not None:
            raise RecipeError(
                f"Expected folders, which can be signed, with --verify-key, received {path!r}.",
                hint="Bench the artifact that holds it.",
            )
        artifact = _wrapped(file, scratch)
        name = file.stem if file.stem != "model" else file.resolve().parent.name
    else:
        artifact = fetch(path, trust_remote_code, verify_key)
        name = artifact.path.resolve().name
    chosen = chosen_runtime(artifact, runtime or None)
    fits = "torch" if artifact.format == "hf" else DEFAULT_RUNTIME[artifact.format]
    ours = chosen in RUNTIMES.built_in and chosen != fits
    if ours and not (artifact.format == "onnx" and chosen == "openvino"):
        raise RecipeError(
            f"{chosen} does not run {artifact.format} models; {path!r} is one.",
            hint="optkit compress makes the formats of other runtimes.",
        )
    options = {"trust_remote_code": True} if trust_remote_code and chosen == "torch" else {}
    return Candidate(f"{name}@{runtime}" if runtime else name, str(artifact.path), chosen, options)


def named(models: list[Candidate], names: Sequence[str] | None) -> list[Candidate]:
    """The models with names of their own: those given, else their folder's, numbered where two agree."""
    if names is not None:
        if len(names) != len(models) or len(set(names)) < len(names):
            raise RecipeError(f"Expected {len(models)} different names, received {list(names)}.")
        return [replace(model, name=name) for model, name in zip(models, names)]
    result: list[Candidate] = []
    for model in models:
        taken = {m.name for m in result}
        free = (model.name, *(f"{model.name}-{i}" for i in range(2, len(models) + 2)))
        result.append(replace(model, name=next(n for n in free if n not in taken)))
    return result


def synthetic(models: Sequence[Candidate]) -> EncodedSet:
    """Random inputs that all `models` take: token ids of all lengths up to 128, random pixels, or sounds.

    Raises CheckpointError where a model takes neither.
    """
    random = np.random.default_rng(0)
    images = [size for m in models if (size := _pixels(m)) is not None]
    if images:
        if len(images) < len(models) or len(set(images)) > 1:
            raise CheckpointError("Expected models that take the same inputs, received images and others.")
        pixels = random.standard_normal((8, *images[0])).astype(np.float32)
        return EncodedSet({"pixel_values": list(pixels)}, {})
    if all(takes_sound(model) for model in models):
        encoder = SoundEncoder(Path(models[0].artifact))
        return encoder.encode([clip(seed, encoder.rate) for seed in range(8)])
    ids, longest = zip(*map(_vocabulary, models))
    top = min(RANDOM_TOKENS, *longest)
    lengths = np.linspace(4, max(top, 4), RANDOM_EXAMPLES).astype(int)
    tokens = [random.integers(min(5, min(ids) - 1), min(ids), n) for n in lengths]
    return EncodedSet(
        {
            "input_ids": tokens,
            "attention_mask": [np.ones_like(t) for t in tokens],
            "token_type_ids": [np.zeros_like(t) for t in tokens],
        },
        {},
    )


def _wrapped(file: Path, scratch: Path) -> Artifact:
    """An artifact folder around a bare graph, with the tokenizer that lies beside it, if any."""
    if not os.path.isfile(file):
        raise CheckpointError(f"Expected an .onnx file, received {str(file)!r}, which does not exist.")
    import onnx

    from optkit.core.schema.graph_files import check_graph

    try:
        graph = onnx.load(str(file), load_external_data=False)
    except Exception as reason:  # protobuf raises its own classes
        raise CheckpointError(f"{str(file)!r} is not an ONNX model: {reason}.") from reason
    folder = scratch / f"{len(list(scratch.iterdir()))}-{file.stem}"
    folder.mkdir()
    for name in (file.name, *sorted(check_graph(file))):
        _place(file.parent / name, folder / name)
    for name in SIDE_FILES:
        if (file.parent / name).exists():
            _place(file.parent / name, folder / name)
    operators = {node.op_type for node in graph.graph.node}
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "format": "onnx",
        "precision": "int8" if operators & _INT8 else "fp32",
        "task": None,
        "runtime": None,
        "lineage": [],
        "files": listing(folder),
        "versions": library_versions(),
    }
    write_json(folder / MANIFEST, manifest)
    return Artifact(folder, manifest)


def _place(source: Path, target: Path) -> None:
    """A hard link where the file system has one for it, else a copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _graph(model: Candidate) -> onnx.GraphProto | None:
    files = sorted(Path(model.artifact).glob("*.onnx"))
    if not files:
        return None
    import onnx

    return onnx.load(str(files[0]), load_external_data=False).graph


def _pixels(model: Candidate) -> tuple[int, ...] | None:
    """Channels × height × width of a model of images; None for a model of text."""
    if takes_sound(model):
        return None
    graph = _graph(model)
    if (shape := input_shape(Path(model.artifact))) is not None:
        return shape
    for value in graph.input if graph is not None else ():
        if value.name == "pixel_values":
            sizes = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
            if all(sizes):
                return tuple(sizes)
    return None


def _vocabulary(model: Candidate) -> tuple[int, int]:
    """(how many token ids, how many positions) a model of text knows."""
    config, graph = Artifact.open(model.artifact).config, _graph(model)
    positions = token_limit(config) or RANDOM_TOKENS
    if config.get("vocab_size"):
        return int(config["vocab_size"]), positions
    if graph is None or "input_ids" not in {value.name for value in graph.input}:
        names = [value.name for value in graph.input] if graph is not None else []
        raise CheckpointError(
            f"Cannot make random inputs for {model.name}: expected input_ids or pixel_values among {names}.",
            hint="Put its config.json beside it, or give --data.",
        )
    sizes = {t.name: t.dims[0] for t in graph.initializer if len(t.dims) == 2}
    looked_up = [n.input[0] for n in graph.node if n.op_type == "Gather" and n.input[1] == "input_ids"]
    tables = [sizes[name] for name in looked_up if name in sizes]
    return (min(tables) if tables else RANDOM_IDS), positions
