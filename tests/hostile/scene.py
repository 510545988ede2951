"""A folder with one of everything that a command reads, as small as can be."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.conftest import sentences, tiny, write_jsonl, write_tokenizer
from tests.report.examples import full_report
from tests.serving.artifacts import artifact

RECIPE = 'target = "cpu"\n[gate]\nmax_drop = "90%"\n[[steps]]\npass = "serve-torch"\n'


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
    (root / "key.pem").write_bytes(private_key())
    os.mkfifo(root / "pipe")
    (root / "empty").mkdir()
    (root / "nothing.jsonl").touch()
    (root / "bytes.bin").write_bytes(bytes(range(256)) * 4)
    (root / "junk").mkdir()
    (root / "junk" / "config.json").write_bytes(b"\xff\xfe{")
    return root


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


def checkpoint(folder: Path) -> Path:
    """A classifier of random weights, as transformers saves it."""
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir()
    write_tokenizer(folder)
    config = transformers.AutoConfig.for_model("bert", **tiny("bert"))
    config.id2label, config.label2id = {0: "negative", 1: "positive"}, {"negative": 0, "positive": 1}
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(str(folder))
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
