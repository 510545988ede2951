"""Damaged files: keys with values of other types, and what is no such file at all."""

from __future__ import annotations

import copy
import json
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optkit.core.artifact import listing as checksums

DEEP = 100_000
#: Of one file, about so many changes of a key are tried, evenly spread.
MOST = 40
#: In the place of a value; none is right everywhere.
WRONG: tuple[Any, ...] = (
    *(None, True, -1, 1.5, 10**30, "", "x", "a\nb", "x" * 300, [], {}, [1], ["x"], [[]], [None], {"a": 1}),
    *({"0": None}, {"": {}}, "../x", "\x1b[31m", "999999999999", [{}]),
)


@dataclass(frozen=True)
class Mutation:
    """`harm` changes the file `name` of the scene; `words` are the command that reads it."""

    name: str
    kind: str
    words: str
    harm: Callable[[Path], None]


#: File → the command that reads it. Those of the artifact are listed anew in its manifest.
READERS = {
    "artifact/optkit.json": "predict S/artifact good",
    "artifact/config.json": "predict S/artifact good",
    "artifact/tokenizer.json": "predict S/artifact good",
    "artifact/tokenizer_config.json": "predict S/artifact good",
    "artifact/encoding.json": "predict S/artifact good",
    "artifact/preprocessor_config.json": "package S/artifact --format zip --out OUT",
    "picture/preprocessor_config.json": "predict S/picture S/picture.png",
    "picture/config.json": "predict S/picture S/picture.png",
    "model/config.json": "predict S/model good",
    "model/tokenizer_config.json": "predict S/model good",
    "model/tokenizer.json": "predict S/model good",
    "model/generation_config.json": "predict S/model good",
    "model/special_tokens_map.json": "predict S/model good",
    "sharded/model.safetensors.index.json": "predict S/sharded good",
    "sentences/modules.json": "predict S/sentences good",
    "sentences/1_Pooling/config.json": "predict S/sentences good",
    "sentences/config_sentence_transformers.json": "predict S/sentences good",
    "sentences/sentence_bert_config.json": "predict S/sentences good",
    "report.json": "gate S/report.json --baseline S/baseline.json",
    "baseline.json": "report merge S/report.json S/baseline.json --out OUT.json",
    "recipe.json": "recipe check S/recipe.json",
    "space.toml": "tune S/model --data S/data --out OUT --space S/space.toml --sampler nothing",
    "prepared/preprocessing.json": "preprocess S/rows.jsonl --out S/prepared",
    "numbers/labels.json": "finetune S/absent --data S/numbers --out OUT",
    "tuned/study.json": "tune S/model --data S/data --out S/tuned --sampler nothing --space epochs=1",
    "older/report.json": "compress S/absent --recipe S/recipe.toml --data S/data --out S/older --force",
}


def mutations(root: Path) -> Iterator[Mutation]:
    """Those of the scene in `root`."""
    for name, words in READERS.items():
        toml = name.endswith(".toml")
        value = (tomllib.loads if toml else json.loads)((root / name).read_text())
        every = list(_changed(value))
        for kind, changed in every[:: max(1, len(every) // MOST)]:
            text = _toml(changed) if toml else json.dumps(changed)
            yield Mutation(name, kind, words, _written(name, text.encode()))
        for kind, content in _whole(toml).items():
            yield Mutation(name, kind, words, _written(name, content))
        for kind, make in {
            "a pipe": os.mkfifo,
            "a folder": os.mkdir,
            "a device": _device,
            "a loop": _loop,
        }.items():
            yield Mutation(name, kind, words, _replaced(name, make))


def _changed(value: Any) -> Iterator[tuple[str, Any]]:
    """`value` with each of its keys, and those one level deeper, changed or taken away."""
    paths = [[key] for key in _keys(value)]
    paths += [[key, inner] for key in _keys(value) for inner in _keys(value[key])[:6]]
    paths += [
        [key, inner, last]
        for key in _keys(value)
        for inner in _keys(value[key])[:1]
        for last in _keys(value[key][inner])[:8]
    ]
    for place, path in enumerate(paths):
        values = WRONG if len(path) == 1 else WRONG[place % 3 :: 3]
        for wrong in values:
            changed = copy.deepcopy(value)
            _at(changed, path[:-1])[path[-1]] = wrong
            yield f"{'.'.join(map(str, path))} = {json.dumps(wrong)[:40]}", changed
        changed = copy.deepcopy(value)
        del _at(changed, path[:-1])[path[-1]]
        yield f"without {'.'.join(map(str, path))}", changed


def _keys(value: Any) -> list[Any]:
    return (
        list(value)
        if isinstance(value, dict)
        else list(range(min(len(value), 2)))
        if isinstance(value, list)
        else []
    )


def _at(value: Any, path: list[Any]) -> Any:
    for part in path:
        value = value[part]
    return value


def _toml(value: dict[str, Any]) -> str:
    """TOML as far as JSON's values are written alike."""
    return "".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in value.items())


def _whole(toml: bool) -> dict[str, bytes]:
    """What stands in the place of the whole file."""
    same = {
        "nothing": b"",
        "no UTF-8": b"\xff\xfe{}",
        "zeros": bytes(1000),
        "a number": b"1",
        "a list": b"[]",
        "an empty object": b"{}",
        "a text": b'"x"',
        "null": b"null",
        "half": b'{"a": [1, ',
    }
    if toml:
        return {
            **same,
            "deep": b"a = " + b"[" * DEEP + b"]" * DEEP,
            "digits": b"a = " + b"9" * 10_000,
            "NaN": b"epochs = [nan]",
            "twice": b"a = 1\na = 2\n",
        }
    return {
        **same,
        "deep": b"[" * DEEP + b"]" * DEEP,
        "deep objects": b'{"a":' * DEEP,
        "digits": b'{"a": ' + b"9" * 10_000 + b"}",
        "NaN": b'{"a": NaN}',
        "infinity": b'{"a": 1e999}',
        "twice": b'{"a": 1, "a": 2}',
        "half of a pair": b'{"a": "\\ud800"}',
        "comments": b'{"a": 1} // no',
        "NUL": b'{"a\\u0000": "\\u0000"}',
    }


def _written(name: str, content: bytes) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        (root / name).write_bytes(content)
        _listed(root, name)

    return harm


def _replaced(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        (root / name).unlink()
        make(root / name)

    return harm


def _device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def _loop(file: Path) -> None:
    file.symlink_to(file.name)


def _listed(root: Path, name: str) -> None:
    """Sums in the manifest are those of the files as they are."""
    folder = root / name.partition("/")[0]
    manifest = folder / "optkit.json"
    if manifest.is_file() and not name.endswith("optkit.json"):
        value = json.loads(manifest.read_text())
        value["files"] = checksums(folder)
        manifest.write_text(json.dumps(value))


def damaged(mutation: Mutation, root: Path, to: Path) -> Path:
    """A copy of the scene as far as the command reads it, damaged."""
    to.mkdir(parents=True)
    for path in root.iterdir():
        (to / path.name).symlink_to(path)
    for word in {
        mutation.name,
        *(w.removeprefix("S/") for w in mutation.words.split() if w.startswith("S/")),
    }:
        top = word.partition("/")[0]
        if (root / top).exists() and (to / top).is_symlink():
            (to / top).unlink()
            (shutil.copytree if (root / top).is_dir() else shutil.copy)(root / top, to / top)
    mutation.harm(to)
    return to
