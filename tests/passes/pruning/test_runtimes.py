"""A pruned checkpoint answers as the masked model does, in every runtime that serves on this machine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optkit.core.artifact import Artifact
from optkit.models.checkpoint import fetch, load_model, model_inputs, save_model
from optkit.models.uneven.layout import sublayers
from optkit.models.uneven.surgery import cut, record
from optkit.passes.base import apply, make
from optkit.passes.pruning.masks import masked
from optkit.runtimes.base import infer_all, open_session


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_every_runtime_gives_the_masked_models_logits(kind, make_checkpoint, context, tmp_path):
    source = fetch(make_checkpoint(kind))
    model = load_model(source)
    places = sublayers(model)
    keep = [[1], [*range(0, 64, 3)], [], [5, 9]]  # the second layer has no attention left
    masks = {p: [float(i in k) for i in range(p.units)] for p, k in zip(places, keep)}
    encoded = context.encoded("test", None)
    names, expected = model_inputs(model), []
    with masked(masks), torch.inference_mode():
        for i in range(len(encoded)):
            feeds = {n: torch.from_numpy(a) for n, a in encoded.batch([i]).items() if n in names}
            expected.append(model(**feeds).logits[0].numpy())
    for place, units in zip(places, keep):
        cut(place, units)
    record(model)
    (tmp_path / "pruned").mkdir()
    save_model(model, source, tmp_path / "pruned")
    pruned = Artifact.open(tmp_path / "pruned")
    graph = apply(make("export-onnx", {}), pruned, tmp_path / "onnx", context)
    made = {"torch": pruned, "onnxruntime": graph}
    made["openvino"] = apply(make("open-vino", {}), graph, tmp_path / "openvino", context)
    for runtime, artifact in made.items():
        with open_session(artifact) as session:
            found = infer_all(session, encoded, 8, 512)["logits"]
        assert np.abs(np.stack(found) - np.stack(expected)).max() < 1e-5, runtime
