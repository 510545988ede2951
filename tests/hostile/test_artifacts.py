"""Artifacts built to harm. None runs code, writes outside, opens a socket, hangs, or ends in a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import sys
from pathlib import Path
from unittest import mock

import pytest

from optkit.cli import main
from optkit.core.artifact import listing
from tests.serving.artifacts import artifact

DEEP = "[" * 100_000
CODE = 'import pathlib, os\npathlib.Path(os.environ["CANARY"]).write_text("ran")\nclass Model: pass\n'
BREAK = 'int8"\nRUN touch /tmp/x\nRequires-Dist: evil'


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An artifact that is as it should be."""
    return artifact(tmp_path_factory.mktemp("whole") / "model")


def manifest(**changes):
    """Change keys of optkit.json; what is listed stays right."""

    def harm(folder: Path) -> None:
        value = json.loads((folder / "optkit.json").read_text())
        (folder / "optkit.json").write_text(json.dumps({**value, **changes}))

    return harm


def options(name="onnxruntime", **given):
    return manifest(runtime={"name": name, "options": given})


def listed(change):
    """Change files of the folder and list them as they are then."""

    def harm(folder: Path) -> None:
        change(folder)
        manifest(files=listing(folder))(folder)

    return harm


def settings(name, **changes):
    def harm(folder: Path) -> None:
        file = folder / name
        value = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**value, **changes}))

    return listed(harm)


def text(name, content):
    return listed(lambda folder: (folder / name).write_bytes(content.encode("utf-8", "surrogatepass")))


def unlisted(name, content=b"{}"):
    return lambda folder: (folder / name).write_bytes(content)


def raw(content):
    return lambda folder: (folder / "optkit.json").write_text(content)


def files_with(name, sha="0" * 64):
    def harm(folder: Path) -> None:
        manifest(files={**listing(folder), name: sha})(folder)

    return harm


def replaced(name, make):
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return harm


def graph(change):
    def harm(folder: Path) -> None:
        import onnx

        model = onnx.load(str(folder / "model.onnx"))
        change(model)
        onnx.save(model, str(folder / "model.onnx"))

    return listed(harm)


def outside(location):
    """The first weights of the graph are said to lie in the file `location`."""

    def change(model) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        for key, value in (("location", location), ("offset", "0"), ("length", "5120")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    return graph(change)


def node(operator, domain="", **attributes):
    def change(model) -> None:
        import onnx

        made = onnx.helper.make_node(operator, ["logits"], ["more"], domain=domain, **attributes)
        model.graph.node.append(made)

    return graph(change)


def linked_weights(folder: Path) -> None:
    (folder.parent / "secret.bin").write_bytes(bytes(10_000))
    (folder / "weights.data").symlink_to("../secret.bin")
    outside("weights.data")(folder)


def sparse(name, size):
    def make(file: Path) -> None:
        with file.open("wb") as stream:
            stream.truncate(size)

    return replaced(name, make)


def with_code(folder: Path) -> None:
    (folder / "evil.py").write_text(CODE)
    settings("config.json", auto_map={"AutoConfig": "evil.Model", "AutoModel": "evil.Model"})(folder)
    options(trust_remote_code=True)(folder)


HARMS = {
    # code
    "trust in the options": options(trust_remote_code=True),
    "trust of another runtime": options("torch", trust_remote_code=True),
    "a module and auto_map": with_code,
    "trust in config.json": settings("config.json", trust_remote_code=True),
    "trust in a nested config": settings("config.json", text_config={"a": [{"trust_remote_code": True}]}),
    "trust in tokenizer_config": settings("tokenizer_config.json", trust_remote_code=True),
    "a kernel of the hub": settings("config.json", attn_implementation="kernels-community/flash-attn"),
    "a nested kernel": settings("config.json", vision_config={"_attn_implementation": "a/b:c"}),
    "an activation to import": settings("config.json", sentence_transformers={"activation_fn": "os.system"}),
    "a dtype to import": settings("config.json", torch_dtype="os;system('x')"),
    "weights elsewhere": settings("config.json", transformers_weights="../../x.safetensors"),
    "a module to import": text("modules.json", '[{"idx": 0, "name": "0", "path": "", "type": "os.system"}]'),
    "a module outside": text(
        "modules.json",
        '[{"idx": 0, "name": "0", "path": "../..", "type": "sentence_transformers.models.Transformer"}]',
    ),
    "a tokenizer elsewhere": settings("tokenizer_config.json", tokenizer_file="/etc/passwd"),
    "an unlisted module": unlisted("evil.py", CODE.encode()),
    "an unlisted pickle": unlisted("pytorch_model.bin", b"\x80\x04"),
    "an unlisted config": unlisted("generation_config.json"),
    "a graph of EPContext": node("EPContext", "com.microsoft", ep_cache_context="/etc/passwd"),
    "an operator of a library": node("Evil", "evil.domain"),
    # options, runtimes
    "a cache folder": options("openvino", cache_dir="canary-folder"),
    "a log file": options(log_file="x.log"),
    "a profile": options(enable_profiling=True),
    "a provider library": options(provider="/tmp/evil.so"),
    "a test double": options("fake"),
    "a test double that dies": options("fake", flaw="crash"),
    "a runtime by its module": options("os.path"),
    "a runtime outside": options("../fake"),
    "threads of a billion": options(threads=1_000_000_000),
    "no threads": options(threads=-1),
    "threads that are true": options(threads=True),
    "threads in words": options(threads="two"),
    "threads by the object": options(threads={"a": 1}),
    "a bucket of a billion": options(bucket=10**9),
    "options that are a list": manifest(runtime={"name": "onnxruntime", "options": []}),
    # names and paths
    "a file above": files_with("../../config.json"),
    "an absolute file": files_with("/etc/passwd"),
    "a file of Windows": files_with("..\\..\\x"),
    "a file with a line break": files_with("a\nb"),
    "a file with an escape": files_with("\x1b[31mx"),
    "a file with a comma": files_with("a,b"),
    "the manifest in itself": files_with("optkit.json"),
    "a file that is absent": files_with("absent.bin"),
    "no files": manifest(files={}),
    "files as a list": manifest(files=["model.onnx"]),
    "a short sha": files_with("config.json", "abc"),
    "a wrong sha": files_with("config.json"),
    "a dot": files_with("./config.json"),
    "an empty name": files_with(""),
    # injections
    "lines in the precision": manifest(precision=BREAK),
    "lines in the task": manifest(task="x\nRUN evil"),
    "lines in the runtime": manifest(runtime={"name": "x\nRUN evil"}),
    "lines in a version": manifest(versions={"torch": "1\nRUN evil"}),
    "a terminal's escape in a step": manifest(lineage=[{"pass": "\x1b]0;x\x07", "parameters": {}}]),
    "text turned around": manifest(precision="\u202eint8"),
    "an escape in a label": settings("config.json", id2label={"0": "a\x1b[2J", "1": "b"}),
    "an unknown key": manifest(evil=1),
    # links and special files
    "a link outside": replaced("config.json", lambda file: file.symlink_to("/etc/passwd")),
    "a link above": replaced("tokenizer.json", lambda file: file.symlink_to("../../x")),
    "a link to itself": replaced("tokenizer.json", lambda file: file.symlink_to(file.name)),
    "a folder by a link": lambda folder: (folder / "1_Pooling").symlink_to("/etc"),
    "a pipe as the manifest": replaced("optkit.json", os.mkfifo),
    "a pipe as the tokenizer": replaced("tokenizer.json", os.mkfifo),
    "a pipe as the model": replaced("model.onnx", os.mkfifo),
    "a pipe beside": lambda folder: os.mkfifo(folder / "notes.md"),
    "a folder as the config": replaced("config.json", Path.mkdir),
    "a folder as the manifest": replaced("optkit.json", Path.mkdir),
    "a device": replaced("config.json", lambda file: file.symlink_to("/dev/zero")),
    "weights by a link": linked_weights,
    # bombs and damage
    "a deep manifest": raw(DEEP),
    "a deep config": text("config.json", DEEP),
    "a deep tokenizer": text("tokenizer.json", DEEP),
    "a deep tokenizer config": text("tokenizer_config.json", '{"a":' * 5000 + "1" + "}" * 5000),
    "digits in the manifest": raw('{"schema": ' + "9" * 10_000 + "}"),
    "digits in the config": text("config.json", '{"num_labels": ' + "9" * 10_000 + "}"),
    "a key twice": raw('{"schema": "optkit.artifact/1", "schema": "x"}'),
    "a huge manifest": sparse("optkit.json", 2**40),
    "a huge config": sparse("config.json", 2**40),
    "a huge tokenizer": sparse("tokenizer.json", 2**40),
    "labels without end": settings("config.json", id2label=None, num_labels=2**31),
    "layers without end": settings("config.json", num_hidden_layers=2**31),
    "positions without end": settings("config.json", max_position_embeddings=2**40),
    "no room for tokens": settings("tokenizer_config.json", model_max_length=-5),
    "half of a pair": text("config.json", '{"id2label": {"0": "\\ud800"}}'),
    "no UTF-8": listed(lambda folder: (folder / "config.json").write_bytes(b'{"a": "\xff"}')),
    "an empty tokenizer": text("tokenizer.json", ""),
    "another object as the tokenizer": text("tokenizer.json", '{"model": 1}'),
    "an empty graph": text("model.onnx", ""),
    "a graph of zeros": text("model.onnx", "\0" * 1000),
    "half of a graph": listed(
        lambda folder: (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:300])
    ),
    "a graph without end": listed(
        lambda folder: (folder / "model.onnx").write_bytes(b"\x3a\xff\xff\xff\xff\x0f")
    ),
    "weights in /etc": outside("/etc/passwd"),
    "weights above": outside("../../secret.bin"),
    "weights that are absent": outside("absent.bin"),
    "weights in the manifest": outside("optkit.json/../../x"),
    "two graphs": listed(lambda folder: shutil.copy(folder / "model.onnx", folder / "other.onnx")),
    "a model of another format": manifest(format="openvino"),
    "an engine that is none": manifest(format="tensorrt"),
}
VERBS = {
    "info": lambda folder, out: ["info", str(folder)],
    "predict": lambda folder, out: ["predict", str(folder), "a fine film"],
    "package": lambda folder, out: ["package", str(folder), "--format", "docker", "--out", str(out)],
    "zip": lambda folder, out: ["package", str(folder), "--format", "zip", "--out", str(out)],
    "compress": lambda folder, out: [
        "compress",
        str(folder),
        "--int8",
        "--data",
        str(folder),
        "--out",
        str(out),
    ],
}
#: What one verb alone can see: others do not read that part of a folder, and may succeed.
ONLY_LOADING = {
    "a graph of EPContext",
    "an operator of a library",
    "an empty tokenizer",
    "another object as the tokenizer",
    "a deep tokenizer",
    "an empty graph",
    "a graph of zeros",
    "half of a graph",
    "a graph without end",
    "weights in /etc",
    "weights above",
    "weights that are absent",
    "weights in the manifest",
    "two graphs",
    "a model of another format",
    "an engine that is none",
}


@pytest.mark.parametrize("name", HARMS)
def test_does_no_harm(name, whole, tmp_path, monkeypatch, capfd):
    folder = Path(shutil.copytree(whole, tmp_path / "in" / "model"))
    HARMS[name](folder)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    before = sorted(str(p) for p in tmp_path.rglob("*") if "work" not in p.parts)
    refused = 0
    for verb, arguments in VERBS.items():
        code = _run(arguments(folder, tmp_path / "work" / verb), monkeypatch)
        said = capfd.readouterr().err
        assert "Traceback" not in said, (verb, said)
        assert "bug in optkit" not in said, (verb, said)
        assert not any(ord(c) < 32 and c != "\n" for c in said), (verb, said)
        if code:
            assert code in (2, 4, 5, 7), (verb, code, said)
            lines = [x.partition(":")[0] for x in said.splitlines() if not x.startswith(" ")]  # progress
            assert lines in (["error"], ["error", "hint"]), said
            assert not (tmp_path / "work" / verb).exists()
            refused += 1
        else:
            assert name in ONLY_LOADING or verb == "info", (verb, "was not refused")
        if verb == "predict":
            assert code, "it answered"
    assert refused
    after = sorted(str(p) for p in tmp_path.rglob("*") if "work" not in p.parts)
    assert after == before
    assert not (tmp_path / "canary").exists()


def test_what_is_whole_is_taken(whole, tmp_path, monkeypatch, capfd):
    for verb in ("info", "predict", "package", "zip"):
        assert _run(VERBS[verb](whole, tmp_path / verb), monkeypatch) == 0, capfd.readouterr().err


def test_a_folder_swapped_while_it_is_read(whole, tmp_path, monkeypatch):
    from optkit.errors import CheckpointError
    from optkit.serving import predictor

    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    real = predictor.open_task

    def swap(artifact):
        (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
        return real(artifact)

    monkeypatch.setattr(predictor, "open_task", swap)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        predictor.load(folder)


def test_links_of_the_hub_cache_are_followed(whole, tmp_path, monkeypatch, capfd):
    blobs = tmp_path / "models--me--it" / "blobs"
    folder = tmp_path / "models--me--it" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    for i, file in enumerate(sorted(whole.iterdir())):
        shutil.copy(file, blobs / str(i))
        (folder / file.name).symlink_to(f"../../blobs/{i}")
    assert _run(["predict", str(folder), "a fine film"], monkeypatch) == 0, capfd.readouterr().err


def _run(arguments, monkeypatch) -> int:
    """The exit code of a command in this process, where no socket can be opened."""
    refused = mock.Mock(side_effect=AssertionError("it opened a socket"))
    monkeypatch.setattr(sys, "argv", ["optkit", *arguments])
    with mock.patch.object(socket.socket, "connect", refused), contextlib.redirect_stdout(io.StringIO()):
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)
