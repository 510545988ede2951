"""Small models of two towers, one for texts and one for images: random weights, sizes for a test."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import write_tokenizer

#: A picture of 2 x 2 pixels, one of them white, as a PNG in base64.
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGM4ISf3//9/xhNycgwMDAAtkgUH6hF6Sw"
    "AAAABJRU5ErkJggg=="
)
#: Layers and widths of each tower.
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def two_towers(folder: Path, kind: str = "clip", side: int = 16, **processor) -> Path:
    """A layer a tower on images of `side` x `side`, its `kind` as transformers' model_type.

    `processor` changes its preprocessor_config.json.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(folder, kind, side, **processor)
    text = {**_SIZES, "vocab_size": 40, "max_position_embeddings": 64}
    text |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "projection_size": 32}
    vision = {**_SIZES, "image_size": side, "patch_size": 8}
    if kind == "align":  # an EfficientNet sees
        vision = {"image_size": side, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 32}
    vision |= {"num_patches": 4} if kind == "siglip2" else {}
    text |= {"project_dim": 16} if kind == "altclip" else {}
    more = {} if kind.startswith("siglip") else {"projection_dim": 16}
    config = transformers.AutoConfig.for_model(kind, text_config=text, vision_config=vision, **more)
    model = transformers.AutoModelForZeroShotImageClassification.from_config(config)
    for name, p in model.named_parameters():  # answers far enough apart that rounding does not decide
        p.data.mul_(3.0) if p.dim() > 1 else p.data.normal_(0, 0.1) if name.endswith("bias") else None
    if hasattr(model, "logit_scale"):
        model.logit_scale.data.fill_(3.0)
    model.save_pretrained(str(folder))
    return folder


def served_towers(folder: Path, kind: str = "clip", seed: int = 0, width: int = 8) -> Path:
    """An ONNX artifact of two towers, made in milliseconds: a table, a product, images of 8 x 8."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from optkit.core.artifact import Artifact, seal
    from optkit.models import tokenization
    from optkit.runtimes.towers import IDS, IMAGE, IMAGE_OUTPUTS, MASK, PIXELS, TEXT, TEXT_OUTPUTS

    folder.mkdir(parents=True)
    write_settings(folder, kind, 8)
    parts = {"text_config": {"max_position_embeddings": 64}, "vision_config": {"image_size": 8}}
    stated = {
        "model_type": kind,
        "architectures": ["CLIPModel" if kind == "clip" else "SiglipModel"],
        **parts,
    }
    (folder / "config.json").write_text(json.dumps(stated))
    random = np.random.default_rng(seed)

    def constant(name, value):
        return numpy_helper.from_array(np.asarray(value), name)

    def save(name, nodes, inputs, outputs, constants):
        put = [helper.make_tensor_value_info(*x) for x in inputs]
        given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs]
        graph = helper.make_graph(nodes, "small", put, given, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, str(folder / name))

    table = random.normal(size=(40, width)).astype(np.float32)
    table[0] = 0  # padding says nothing
    count = [
        helper.make_node("ReduceSum", [TEXT_OUTPUTS[0], "one"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "scale"], [TEXT_OUTPUTS[1]]),
        helper.make_node("Add", ["nothing", "bias"], [TEXT_OUTPUTS[2]]),
    ]
    names = [IDS, MASK] if kind == "clip" else [IDS]
    save(
        TEXT,
        [
            helper.make_node("Gather", ["table", IDS], ["states"]),
            helper.make_node("ReduceSum", ["states", "one"], [TEXT_OUTPUTS[0]], keepdims=0),
            *count,
        ],
        [(n, TensorProto.INT64, ("batch", "sequence")) for n in names],
        [(TEXT_OUTPUTS[0], ("batch", width)), *((n, ("batch",)) for n in TEXT_OUTPUTS[1:])],
        [
            constant("table", table),
            constant("one", np.array([1])),
            *(constant(n, np.float32(x)) for n, x in (("zero", 0), ("scale", 4), ("bias", -0.5))),
        ],
    )
    save(
        IMAGE,
        [
            helper.make_node("Flatten", [PIXELS], ["flat"]),
            helper.make_node("MatMul", ["flat", "pixels"], list(IMAGE_OUTPUTS)),
        ],
        [(PIXELS, TensorProto.FLOAT, ("batch", 3, 8, 8))],
        [(IMAGE_OUTPUTS[0], ("batch", width))],
        [constant("pixels", random.normal(size=(192, width)).astype(np.float32))],
    )
    tokenization.record(folder, folder)
    empty = Artifact(folder, {"lineage": [], "runtime": None, "precision": "fp32"})
    step, task = {"pass": "made-for-a-test", "parameters": {}}, "zero-shot-image-classification"
    seal(folder, empty, step, format="onnx", task=task)
    return folder


def write_settings(folder: Path, kind: str, side: int, **processor) -> None:
    """The tokenizer and preprocessor_config.json of such a model."""
    write_tokenizer(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    if kind == "siglip":  # whose tokenizer gives no mask
        settings["model_input_names"] = ["input_ids"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    stated = {"image_processor_type": "SiglipImageProcessor", "size": {"height": side, "width": side}}
    if not kind.startswith("siglip"):
        crop = {"crop_size": {"height": side, "width": side}, "do_center_crop": True}
        stated = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": side}, **crop}
    (folder / "preprocessor_config.json").write_text(json.dumps({**stated, **processor}))
