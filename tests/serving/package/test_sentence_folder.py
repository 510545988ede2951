"""A packaged folder gives, through sentence-transformers' own modules, the artifact's vectors.

The library's ONNX and OpenVINO backends need optimum, which no transformers of ours fits: the graphs run here
as its `ORTModelForFeatureExtraction` runs them, and everything else is the library's.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import optkit
from optkit.errors import RecipeError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.serving.package import package
from optkit.tasks.base import open_task
from tests.serving.artifacts import artifact
from tests.tasks.builders import add_dense, embedder

library = pytest.importorskip("sentence_transformers")
TEXTS = ["a fine film", "dull", "the plot is thin and the cast is not very good"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = embedder(tmp_path_factory.mktemp("p") / "st", pooling={"pooling_mode": "mean"})
    add_dense(folder, 32, 12)
    settings = {"prompts": {"query": "the plot "}, "truncate_dim": 10}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def by_the_library(folder, place):
    """`SentenceTransformer(folder, backend=...)` but for optimum."""
    import torch
    from sentence_transformers.sentence_transformer import modules

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            [file] = [f for f in (folder / place).iterdir() if f.suffix in (".onnx", ".xml")]
            if place == "onnx":
                import onnxruntime

                session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
                self.names = [one.name for one in session.get_inputs()]
                assert [one.name for one in session.get_outputs()] == ["last_hidden_state"]
                self.run = lambda feeds: session.run(["last_hidden_state"], feeds)[0]
            else:
                import openvino

                exact = {"INFERENCE_PRECISION_HINT": "f32"}  # some CPUs would compute in bf16
                model = openvino.Core().compile_model(str(file), "CPU", exact)
                self.names = [one.get_any_name() for one in model.inputs]
                self.run = lambda feeds: model(feeds)["last_hidden_state"]

        def forward(self, features):
            zeros = torch.zeros_like(features["input_ids"])  # as optimum fills what a tokenizer does not give
            feeds = {name: features.get(name, zeros).numpy() for name in self.names}
            return {**features, "token_embeddings": torch.from_numpy(self.run(feeds))}

    listed = json.loads((folder / "modules.json").read_text())
    assert [one["type"].rpartition(".")[2] for one in listed] == ["Transformer", "Pooling"]
    pooling = modules.Pooling.load(str(folder / listed[1]["path"]))
    settings = json.loads((folder / "config_sentence_transformers.json").read_text())
    from transformers import AutoTokenizer

    tokenizer, graph = AutoTokenizer.from_pretrained(str(folder)), Graph()

    def encode(texts, prompt=""):
        features = dict(
            tokenizer([prompt + x for x in texts], padding=True, truncation=True, return_tensors="pt")
        )
        return pooling(graph(features))["sentence_embedding"].numpy()[:, : settings["truncate_dim"]]

    return encode


@pytest.mark.parametrize(
    ("place", "steps"), [("onnx", ["export-onnx"]), ("openvino", ["export-onnx", "open-vino"])]
)
def test_the_folder_gives_the_artifacts_vectors(place, steps, folder, tmp_path):
    source = fetch(folder)
    for step in steps:
        source = apply(make(step, {}), source, tmp_path / step, make_context(open_task(fetch(folder))))
    manifest = json.loads((source.path / "optkit.json").read_text()) | {"task": "embeddings"}
    (source.path / "optkit.json").write_text(json.dumps(manifest))
    done = package(source.path, "sentence-transformers", tmp_path / "packed")
    assert f"backend='{place}'" in done.use
    package(source.path, "sentence-transformers", tmp_path / "packed", force=True)
    encode = by_the_library(tmp_path / "packed", place)
    right = library.SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(encode(TEXTS), right.encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(encode(TEXTS, "the plot "), right.encode_query(TEXTS), atol=1e-5)
    with optkit.load(source.path) as model:
        np.testing.assert_allclose(encode(TEXTS), model.predict(TEXTS), atol=1e-5)


def test_a_classifier_keeps_its_graph_and_other_tasks_are_refused(tmp_path):
    package(artifact(tmp_path / "a"), "sentence-transformers", tmp_path / "packed", name="a")
    graph = (tmp_path / "packed" / "onnx" / "model.onnx").read_bytes()
    assert graph == (tmp_path / "a" / "model.onnx").read_bytes()
    with pytest.raises(RecipeError, match="which sentence-transformers does not load"):
        package(artifact(tmp_path / "b", "causal-lm"), "sentence-transformers", tmp_path / "out", name="b")
    assert not (tmp_path / "out").exists()
