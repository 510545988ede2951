"""Checkpoints built to harm, given to the verbs that read one. None runs code, writes elsewhere or breaks."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest

from tests.hostile.inline import inline, run, stop_before_the_work

CODE = 'import pathlib, os\npathlib.Path(os.environ["CANARY"]).write_text("ran")\nclass Model: pass\n'
JINJA = (
    "{{ cycler.__init__.__globals__.os.system('touch ' ~ cycler.__init__.__globals__.os.environ.CANARY) }}"
)


class Evil:
    """Unpickled, it writes the file $CANARY."""

    def __reduce__(self):
        return exec, (CODE,)


def settings(name, **changes):
    def harm(folder: Path) -> None:
        file = folder / name
        value = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**value, **changes}))

    return harm


def text(name, content):
    def harm(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)

    return harm


def pickled(name):
    return lambda folder: (folder / name).write_bytes(pickle.dumps(Evil()))


def both(*harms):
    def harm(folder: Path) -> None:
        for each in harms:
            each(folder)

    return harm


def without(name, *harms):
    return both(lambda folder: (folder / name).unlink(), *harms)


def replaced(name, make):
    return without(name, lambda folder: make(folder / name))


def header(change=None, raw=None, length=None):
    """The header of the weights is another one: `raw` bytes, or the JSON as `change` leaves it."""

    def harm(folder: Path) -> None:
        file = folder / "model.safetensors"
        content = file.read_bytes()
        size = struct.unpack("<Q", content[:8])[0]
        value, weights = json.loads(content[8 : 8 + size]), content[8 + size :]
        if change:
            change(value)
        new = raw if raw is not None else json.dumps(value).encode()
        file.write_bytes(struct.pack("<Q", len(new) if length is None else length) + new + weights)

    return harm


def first(value):
    return value[next(name for name in value if name != "__metadata__")]


def tokenizer(change):
    def harm(folder: Path) -> None:
        file = folder / "tokenizer.json"
        value = json.loads(file.read_text())
        change(value)
        file.write_text(json.dumps(value))

    return harm


def module(kind, path=""):
    return {"idx": 0, "name": "0", "path": path, "type": kind}


def modules(*lines):
    return text("modules.json", json.dumps(list(lines)))


EVIL = text("evil.py", CODE)
AUTO = {"AutoConfig": "evil.Model", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.Model", "evil.Model"]}
AUTO |= {"AutoModelForSequenceClassification": "evil.Model", "AutoImageProcessor": "evil.Model"}

#: Refused by every verb.
REFUSED = {
    # code
    "auto_map": both(EVIL, settings("config.json", auto_map=AUTO)),
    "auto_map of the hub": settings("config.json", auto_map={"AutoModel": "me/it--evil.Model"}),
    "auto_map further in": both(EVIL, settings("config.json", text_config={"auto_map": AUTO})),
    "a pickle alone": without("model.safetensors", pickled("pytorch_model.bin")),
    "a pickle as safetensors": pickled("model.safetensors"),
    "a pickle by the index": without(
        "model.safetensors",
        pickled("pytorch_model.bin"),
        text("model.safetensors.index.json", '{"weight_map": {"a": "pytorch_model.bin"}}'),
    ),
    "a pickle beside its index": without(
        "model.safetensors",
        pickled("x.bin"),
        text("pytorch_model.bin.index.json", '{"weight_map": {"a": "x.bin"}}'),
    ),
    "weights above by the index": without(
        "model.safetensors", text("model.safetensors.index.json", '{"weight_map": {"a": "../x.safetensors"}}')
    ),
    "an adapter": settings("adapter_config.json", base_model_name_or_path="/etc", peft_type="LORA"),
    "an adapter of an address": settings("adapter_config.json", base_model_name_or_path="http://127.0.0.1/x"),
    "an adapter alone": without(
        "model.safetensors",
        settings("adapter_config.json", base_model_name_or_path="../.."),
        text("adapter_model.safetensors", "x"),
    ),
    "a module of one's own": both(EVIL, modules(module("evil.Model"))),
    "a module that runs": modules(module("os.system")),
    "a module outside": modules(module("sentence_transformers.models.Transformer", "../..")),
    "a module without end": modules(*[module("sentence_transformers.models.Dense")] * 10_000),
    "modules that are none": text("modules.json", "[[1]]"),
    "an unknown module": modules(module("sentence_transformers.models.Evil")),
    "an attention of the hub": settings("config.json", attn_implementation="me/kernel"),
    "a type to import": settings("config.json", dtype="os.system"),
    "weights elsewhere": settings("config.json", transformers_weights="/etc/passwd"),
    "a tokenizer elsewhere": settings("tokenizer_config.json", vocab_file="/etc/passwd"),
    "quantized by code": settings("config.json", quantization_config={"quant_method": "evil"}),
    "a model type that is a path": settings("config.json", model_type="../evil"),
    "an unknown model type": settings("config.json", model_type="evil"),
    "an unknown architecture": settings("config.json", architectures=["os.system"]),
    "a processor that is a path": settings("preprocessor_config.json", image_processor_type="../evil"),
    "a processor that is code": settings("preprocessor_config.json", image_processor_type="__import__('os')"),
    # sizes
    "layers without end": settings("config.json", num_hidden_layers=10**6),
    "no heads": settings("config.json", num_attention_heads=0),
    "labels without end": settings("config.json", num_labels=10**7),
    "numbers as words": settings("config.json", hidden_size="32"),
    "a vocabulary of another size": settings("config.json", vocab_size=7),
    "a negative width": settings("config.json", intermediate_size=-5),
    "a width that is none": settings("config.json", intermediate_size=[1]),
    "a width of too much": settings("config.json", intermediate_size=2**40),
    "another activation": settings("config.json", hidden_act="os.system"),
    "a dropout of words": settings("config.json", hidden_dropout_prob="much"),
    # weights
    "a header of 2**60 bytes": header(length=2**60),
    "a header longer than the file": header(length=10**7),
    "no header": header(raw=b""),
    "a header of brackets": header(raw=b"[" * 100_000),
    "a header that is a list": header(raw=b"[]"),
    "a tensor behind the end": header(lambda v: first(v).update(data_offsets=[0, 2**50])),
    "tensors over one another": header(lambda v: first(v).update(data_offsets=[4, 8])),
    "a tensor of a negative size": header(lambda v: first(v).update(shape=[-1, 2])),
    "a tensor of 2**70 numbers": header(lambda v: first(v).update(shape=[2**35, 2**35])),
    "a tensor of an unknown type": header(lambda v: first(v).update(dtype="EVIL")),
    "half of the weights": lambda folder: os.truncate(
        folder / "model.safetensors", (folder / "model.safetensors").stat().st_size // 2
    ),
    "other tensors": header(lambda v: v.update({"x": v.pop(next(n for n in v if n != "__metadata__"))})),
    # tokenizers
    "a deep tokenizer": text("tokenizer.json", '{"a":' * 5000 + "1" + "}" * 5000),
    "a tokenizer of one number": text("tokenizer.json", '{"model": 1}'),
    "a tokenizer without a model": tokenizer(lambda v: v.pop("model")),
    "an unknown tokenizer": tokenizer(lambda v: v["model"].update(type="Evil")),
    "ids beyond all": tokenizer(lambda v: v["model"]["vocab"].update(film=2**40)),
    "ids below zero": tokenizer(lambda v: v["model"]["vocab"].update(film=-1)),
    "ids that the model has not": tokenizer(lambda v: v["model"]["vocab"].update(film=10**6)),
    "no word for the unknown": tokenizer(lambda v: v["model"].update(unk_token="[NO]")),
    "a template of unknown tokens": tokenizer(
        lambda v: v.update(
            post_processor={
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[NO]", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        )
    ),
    "a pattern that is none": tokenizer(
        lambda v: v.update(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "(("},
                "behavior": "Isolated",
                "invert": False,
            }
        )
    ),
    "a map of characters that is none": tokenizer(
        lambda v: v.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})
    ),
    "special tokens that are numbers": settings("special_tokens_map.json", pad_token=5),
    "no room for tokens": settings("tokenizer_config.json", model_max_length=-1),
    # links and special files
    "a link outside": replaced("config.json", lambda file: file.symlink_to("/etc/passwd")),
    "weights by a link": replaced("model.safetensors", lambda file: file.symlink_to("../../secret")),
    "a link to itself": replaced("tokenizer.json", lambda file: file.symlink_to(file.name)),
    "a pipe as the weights": replaced("model.safetensors", os.mkfifo),
    "a pipe as the tokenizer": replaced("tokenizer.json", os.mkfifo),
    "a pipe as the template": lambda folder: os.mkfifo(folder / "chat_template.jinja"),
    "a device": replaced("tokenizer_config.json", lambda file: file.symlink_to("/dev/zero")),
    "a folder as the weights": replaced("model.safetensors", Path.mkdir),
    "a huge config": replaced("config.json", lambda file: file.touch() or os.truncate(file, 2**40)),
    "a huge tokenizer": replaced("tokenizer.json", lambda file: file.touch() or os.truncate(file, 2**40)),
}
#: Nobody opens or runs what is harmful here: the model answers as it should.
HARMLESS = {
    "auto_map of the tokenizer": both(EVIL, settings("tokenizer_config.json", auto_map=AUTO)),
    "auto_map of the processor": both(EVIL, settings("preprocessor_config.json", auto_map=AUTO)),
    "a pickle beside": both(
        pickled("pytorch_model.bin"), pickled("training_args.bin"), pickled("optimizer.pt")
    ),
    "code that nobody names": both(EVIL, text("custom_generate/generate.py", CODE), text("setup.py", CODE)),
    "a template that runs": settings("tokenizer_config.json", chat_template=JINJA),
    "a template in a file": text("chat_template.jinja", JINJA),
    "pipelines of one's own": both(
        EVIL, settings("config.json", custom_pipelines={"x": {"impl": "evil.Model", "pt": ["evil.Model"]}})
    ),
    "another name": settings("config.json", _name_or_path="/etc/passwd"),
    "padding without end": tokenizer(
        lambda v: v.update(
            padding={
                "strategy": {"Fixed": 10**9},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            }
        )
    ),
    "a cut at nothing": tokenizer(
        lambda v: v.update(
            truncation={"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0}
        )
    ),
    "a README that is a pipe": lambda folder: os.mkfifo(folder / ".README.md"),
}


@pytest.fixture(scope="module")
def whole(checkpoint, tmp_path_factory):
    return Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("whole") / "model"))


def verbs(folder, out, data, whole):
    """The verbs that load a checkpoint, each in its own way; `distill` takes it as student and as teacher."""
    given = ["--data", data, "--out", out]
    return {
        "info": ["info", folder],
        "predict": ["predict", folder, "a fine film", "the plot is thin"],
        "finetune": ["finetune", folder, *given, "--epochs", "1", "--batch", "8"],
        "distill": ["distill", folder, *given, "--teacher", whole, "--epochs", "1"],
        "teacher": ["distill", whole, *given, "--teacher", folder, "--epochs", "1"],
    }


#: What one verb does not read, and may succeed in spite of.
UNREAD = {
    "finetune": {"an unknown module", "an unknown architecture"},  # the data says the task; a pooling is none
    "distill": {"auto_map of the processor"},  # it asks for the same images of student and teacher
    "teacher": {"an unknown architecture", "auto_map of the processor"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_and_does_no_harm(name, whole, data, place, monkeypatch, capfd):
    folder = Path(shutil.copytree(whole, place / "in" / "model"))
    REFUSED[name](folder)
    _every_verb(name, folder, whole, data, place, monkeypatch, capfd, refused=True)


@pytest.mark.parametrize("name", HARMLESS)
def test_nobody_opens_or_runs_what_is_harmful(name, whole, data, place, monkeypatch, capfd):
    folder = Path(shutil.copytree(whole, place / "in" / "model"))
    HARMLESS[name](folder)
    _every_verb(name, folder, whole, data, place, monkeypatch, capfd, refused=False)


def _every_verb(name, folder, whole, data, place, monkeypatch, capfd, refused):
    stop_before_the_work(monkeypatch)
    before = sorted(str(p) for p in place.rglob("*") if "work" not in p.parts)
    with inline():
        for verb, arguments in verbs(folder, place / "work" / "out", data, whole).items():
            code = run(arguments, monkeypatch)
            said = capfd.readouterr().err
            assert "Traceback" not in said, (verb, said)
            assert "bug in optkit" not in said, (verb, said)
            if code:
                assert code in (2, 4, 5, 7, 8), (verb, code, said)
                assert [x[:6] for x in said.splitlines()].count("error:") == 1, (verb, said)
                if code != 8:
                    assert not list((place / "work").iterdir()), verb
            if verb != "info" and name not in UNREAD.get(verb, ()):
                assert bool(code) is refused, (verb, code, said)
            for path in (place / "work").iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not (place / "canary").exists()
    assert sorted(str(p) for p in place.rglob("*") if "work" not in p.parts) == before
