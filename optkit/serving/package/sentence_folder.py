"""`sentence-transformers`: a folder that sentence-transformers loads with its ONNX or OpenVINO backend.

`onnx/model.onnx` or `openvino/openvino_model.xml` lie where `SentenceTransformer(folder, backend=...)` and
`CrossEncoder` look for them, beside the tokenizer and the settings. The library pools what a graph gives for
each token; the artifact's graph has pooled, and all that follows, already: so it gives the finished vector at
every token, and the folder's one Pooling takes the first. A graph that gives a vector for each token keeps
them, and of the modules that which says which tokens count.
Source: sentence-transformers 6.2, `backend/load.py`; optimum-onnx 0.1, `ORTModelForFeatureExtraction`.
"""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from optkit.core.artifact import MODULE_FILES, SIDE_FILES, Artifact, copy_files
from optkit.core.files import sha256, write_json
from optkit.core.sentence_modules import MULTI_VECTOR, TOKEN_MASK, Module, modules
from optkit.errors import MissingDependency, RecipeError
from optkit.models.pooling import OUTPUT, TOKENS
from optkit.models.task import TASKS, ModelTask
from optkit.serving.package.bom import NAME, write_bom
from optkit.serving.package.zip import check_written

#: Format of an artifact → the library's folder for it, and the name of the graph there.
_PLACES = {"onnx": ("onnx", "model.onnx"), "openvino": ("openvino", "openvino_model.xml")}
_TOKENS, _POOLING = "last_hidden_state", "1_Pooling"
_MODULES = "sentence_transformers.models"
_PACKAGES = {TOKEN_MASK: "sentence_transformers.multi_vector_encoder.modules"}


def write(artifact: Artifact, folder: Path, name: str, version: str) -> str:
    task = TASKS[artifact.task] if artifact.task is not None and artifact.task in TASKS else ModelTask
    kind = task.sentence_transformers
    if artifact.format not in _PLACES or not kind:
        raise RecipeError(
            f"Expected an ONNX or OpenVINO model for vectors, rankings or classes of texts, received one for "
            f"{artifact.task} of format {artifact.format}, which sentence-transformers does not load.",
            hint="The formats zip and wheel take any artifact.",
        )
    backend, file = _PLACES[artifact.format]
    side = [n for n in artifact.manifest["files"] if n in SIDE_FILES or Path(n).match(MODULE_FILES)]
    vector = OUTPUT if task.embeds else TOKENS if kind == MULTI_VECTOR else None
    masks = [one for one in modules(artifact.path) if one.kind == TOKEN_MASK]
    if vector:
        files = {f"{one.path}/config.json" for one in masks}
        side = [n for n in side if n in files or (n in SIDE_FILES and n != "modules.json")]
    copy_files(artifact.path, side, folder)
    for one in side:
        check_written(artifact, one, sha256(folder / one))
    target = folder / backend
    target.mkdir()
    put = _put_openvino if backend == "openvino" else _put_onnx
    width = put(artifact, target / file, vector)
    if vector:
        _write_modules(folder, masks if vector == TOKENS else [Module("Pooling", _POOLING)])
    if vector == OUTPUT:
        (folder / _POOLING).mkdir(exist_ok=True)
        settings = {"word_embedding_dimension": width, "pooling_mode_cls_token": True}
        write_json(folder / _POOLING / "config.json", {**settings, "pooling_mode_mean_tokens": False})
    bill = write_bom(artifact, name, version, "sentence-transformers", ["sentence-transformers"])
    (folder / NAME).write_bytes(bill)
    call = "encode" if vector else "predict"
    return (
        f'python -c "from sentence_transformers import {kind}; '
        f"print({kind}('OUT', backend='{backend}').{call}([...]))\""
    )


def wrote(folder: Path) -> bool:
    """Whether all of `folder` is what `write` puts there."""
    names = {path.name for path in folder.iterdir()}
    places = names & {backend for backend, _ in _PLACES.values()}
    known = {*SIDE_FILES, NAME, *places, _POOLING, *(n for n in names if n.endswith(f"_{TOKEN_MASK}"))}
    return NAME in names and len(places) == 1 and names <= known


def _write_modules(folder: Path, behind: list[Module]) -> None:
    lines = [
        {
            "idx": i,
            "name": str(i),
            "path": one.path,
            "type": f"{_PACKAGES.get(one.kind, _MODULES)}.{one.kind}",
        }
        for i, one in enumerate([Module("Transformer", ""), *behind])
    ]
    write_json(folder / "modules.json", lines)


def _put_onnx(artifact: Artifact, file: Path, name: str | None) -> int:
    """The graph with its weights as `file`; the vector that it calls `name` it gives at every token. Its
    width."""
    others = [f.name for f in artifact.model_files if f.suffix != ".onnx"]
    copy_files(artifact.path, others, file.parent)
    if name is None:
        copy_files(artifact.path, ["model.onnx"], file.parent)
        return 0
    if util.find_spec("onnx") is None:
        raise MissingDependency.of("onnx", "compress")
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(artifact.path / "model.onnx"), load_external_data=False)
    [vector] = [output for output in model.graph.output if output.name == name]
    ids = next(one for one in model.graph.input if one.name == "input_ids")
    sizes = (*ids.type.tensor_type.shape.dim, vector.type.tensor_type.shape.dim[-1])
    dims = [size.dim_param or size.dim_value for size in sizes]
    width = int(dims[2])
    spread = [
        helper.make_node("Shape", ["input_ids"], ["st_tokens"]),
        helper.make_node("Concat", ["st_tokens", "st_width"], ["st_shape"], axis=0),
        helper.make_node("Unsqueeze", [name, "st_axis"], ["st_vector"]),
        helper.make_node("Expand", ["st_vector", "st_shape"], [_TOKENS]),
    ]
    model.graph.node.extend(spread if name == OUTPUT else [helper.make_node("Identity", [name], [_TOKENS])])
    if name == OUTPUT:
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.array([1], dtype=np.int64), "st_axis"),
                numpy_helper.from_array(np.array([width], dtype=np.int64), "st_width"),
            ]
        )
    model.graph.output.remove(vector)
    model.graph.output.append(helper.make_tensor_value_info(_TOKENS, TensorProto.FLOAT, dims))
    onnx.save(model, str(file))
    return width


def _put_openvino(artifact: Artifact, file: Path, name: str | None) -> int:
    """The same for OpenVINO's two files."""
    if util.find_spec("openvino") is None:
        raise MissingDependency.of("openvino", "openvino")
    import openvino
    from openvino import opset13

    [source] = [f for f in artifact.model_files if f.suffix == ".xml"]
    model: Any = openvino.Core().read_model(str(source))
    width = 0
    if name == TOKENS:
        next(o for o in model.outputs if name in o.get_names()).get_tensor().set_names({_TOKENS})
    elif name is not None:
        [vector] = [o for o in model.outputs if name in o.get_names()]
        width = vector.get_partial_shape()[-1].get_length()
        ids = next(one for one in model.inputs if "input_ids" in one.get_names())
        tokens = opset13.shape_of(ids, output_type="i64")
        shape = opset13.concat([tokens, opset13.constant(np.array([width]))], 0)
        spread = opset13.broadcast(
            opset13.unsqueeze(vector.get_node().input_value(0), opset13.constant(np.array([1]))),
            shape,
            broadcast_spec="BIDIRECTIONAL",
        )
        spread.output(0).set_names({_TOKENS})
        model = openvino.Model([spread], model.get_parameters(), "model")
    openvino.save_model(model, str(file), compress_to_fp16=False)
    return int(width)
