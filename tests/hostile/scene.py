"""A folder with one of everything that a command reads, as small as can be."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.conftest import sentences, tiny, write_jsonl, write_tokenizer
from tests.report.examples import full_report
from tests.serving.artifacts import artifact

RECIPE = 'target = "cpu"\n[gate]\nmax_drop = "90%"\n[[steps]]\npass = "serve-torch"\n'
RECIPE_STEPS = [
    {"pass": "export-onnx", "opset": 20},
    {"any_of": [[{"pass": "quantize-dynamic"}], {"pass": "quantize-static", "samples": 8}]},
]


def scene(root: Path) -> Path:
    """Make it in the new folder `root`."""
    root.mkdir(parents=True)
    checkpoint(root / "model")
    artifact(root / "artifact")
    for split, count in (("train", 40), ("validation", 12), ("test", 8)):
        (root / "data").mkdir(exist_ok=True)
        write_jsonl(root / "data" / f"{split}.jsonl", sentences(count, seed=count))
    write_jsonl(root / "rows.jsonl", sentences(20))
    (root / "texts.txt").write_text("".join(f"{row['text']}\n" for row in sentences(20, seed=1)))
    (root / "recipe.toml").write_text(RECIPE)
    (root / "space.toml").write_text("epochs = [1]\n")
    for name in ("report.json", "baseline.json"):
        full_report().save(root / name)
    others(root)
    (root / "key.pem").write_bytes(private_key())
    os.mkfifo(root / "pipe")
    (root / "empty").mkdir()
    (root / "nothing.jsonl").touch()
    (root / "bytes.bin").write_bytes(bytes(range(256)) * 4)
    (root / "junk").mkdir()
    (root / "junk" / "config.json").write_bytes(b"\xff\xfe{")
    return root


def others(root: Path) -> None:
    """One of each file that only some commands read."""
    from PIL import Image

    from optkit.preprocessing.run import preprocess

    artifact(root / "picture", "image-classification")
    Image.new("L", (8, 8), 128).save(root / "picture.png")
    sentence_model(root / "sentences")
    checkpoint(root / "sharded", max_shard_size="20KB")
    recipe = {"target": "cpu", "gate": {"max_drop": "1%", "min_speedup": 1.5}, "steps": RECIPE_STEPS}
    made(root, "recipe.json", recipe)
    preprocess(root / "rows.jsonl", root / "prepared")
    shutil.copytree(root / "data", root / "numbers")
    for split in ("train", "validation", "test"):
        rows = [{**row, "label": int(row["label"] == "positive")} for row in sentences(40, seed=len(split))]
        write_jsonl(root / "numbers" / f"{split}.jsonl", rows)
    made(root / "numbers", "labels.json", {"label": ["negative", "positive"]})
    for folder, name, value in (
        ("tuned", "study.json", {"schema": "optkit.study/1", "name": "x", "storage": "y", "trials": []}),
        ("older", "report.json", json.loads((root / "report.json").read_text())),
    ):
        (root / folder).mkdir()
        made(root / folder, name, value)


def sentence_model(folder: Path) -> None:
    """A sentence-transformers folder: a transformer and its pooling."""
    import torch
    import transformers

    torch.manual_seed(0)
    (folder / "1_Pooling").mkdir(parents=True)
    write_tokenizer(folder)
    transformers.BertModel(transformers.BertConfig(**tiny("bert"))).save_pretrained(str(folder))
    kinds = ("Transformer", ""), ("Pooling", "1_Pooling")
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(kinds)
    ]
    made(folder, "modules.json", modules)
    made(
        folder / "1_Pooling",
        "config.json",
        {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
    )
    made(folder, "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": False})
    made(
        folder,
        "config_sentence_transformers.json",
        {"prompts": {"query": "q: "}, "default_prompt_name": None},
    )


def private_key() -> bytes:
    """A key to sign with; what is none where the library for it is absent."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        return b"no key"
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def checkpoint(folder: Path, **saved: str) -> Path:
    """A classifier of random weights, as transformers saves it."""
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir()
    write_tokenizer(folder)
    config = transformers.AutoConfig.for_model("bert", **tiny("bert"))
    config.id2label, config.label2id = {0: "negative", 1: "positive"}, {"negative": 0, "positive": 1}
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(str(folder), **saved)
    for name in ("generation_config.json", "special_tokens_map.json"):
        made(
            folder, name, {"pad_token": "[PAD]"} if "map" in name else {"pad_token_id": 0, "eos_token_id": 3}
        )
    return folder


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below `root` with its size and time, to be compared with another listing."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(folder) / name
            state = path.lstat()
            found[str(path.relative_to(root))] = (
                (state.st_size, state.st_mtime_ns) if name in files else (0, 0)
            )
    return found


def made(folder: Path, name: str, value: object) -> Path:
    """A JSON file in `folder`."""
    (folder / name).write_text(json.dumps(value))
    return folder / name
