from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from optkit import load
from optkit.errors import RecipeError
from optkit.serving.http.run import serve
from optkit.serving.http.settings import ServeSettings
from optkit.serving.http.shadow import LAG, Shadow, _alike, open_shadow
from tests.serving.artifacts import TEXTS, artifact

pytestmark = pytest.mark.usefixtures("fake_runtime")


def value(client, name):
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", client.get("/metrics").text, re.M)
    return float(found[1]) if found else 0.0


def test_the_shadow_answers_too_and_agreement_is_counted(folders, serving, tmp_path):
    other = artifact(tmp_path / "other", seed=5)
    texts = [f"{a} {b}" for a in TEXTS[:4] for b in ("good", "bad", "thin", "cast", "film")]
    with load(folders["text-classification"]) as one, load(other) as two:
        pairs = zip(one.predict(texts), two.predict(texts))
        expected = sum(a.label == b.label for a, b in pairs)
    assert 0 < expected < len(texts)
    with serving({"m": folders["text-classification"]}, shadow=str(other)) as client:
        for text in texts:
            assert client.post("/v1/models/m:predict", json={"instances": [text]}).status_code == 200
        deadline = time.monotonic() + 20
        while value(client, "optkit_shadow_inputs_total") < len(texts) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert value(client, "optkit_shadow_agreement_total") == expected
        assert value(client, "optkit_shadow_seconds_count") == len(texts)


def test_a_text_that_was_streamed_is_compared_too(folders, serving):
    folder = folders["causal-lm"]
    with serving({"m": folder}, shadow=str(folder)) as client:
        body = {"model": "m", "prompt": "a fine film", "temperature": 0, "max_tokens": 5, "stream": True}
        assert client.post("/v1/completions", json=body).status_code == 200
        deadline = time.monotonic() + 20
        while not value(client, "optkit_shadow_inputs_total") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert value(client, "optkit_shadow_agreement_total") == 1


def test_a_shadow_runs_in_its_own_runtime(folders, serving, tmp_path):
    model, other = folders["text-classification"], artifact(tmp_path / "other")
    manifest = json.loads((other / "optkit.json").read_text())
    (other / "optkit.json").write_text(json.dumps({**manifest, "runtime": {"name": "fake"}}))
    told = {"runtime": "onnxruntime", "options": {"spinning": False}, "shadow": str(other)}
    with open_shadow(ServeSettings({"m": str(model)}, **told), "text-classification") as predictor:
        assert type(predictor._session).__name__ == "FakeSession"
    with serving({"m": model}, **told) as client:
        assert client.post("/v1/models/m:predict", json={"instances": ["a"]}).status_code == 200


def test_a_shadow_for_another_task_is_refused(folders, serving):
    shadow = str(folders["embeddings"])
    with pytest.raises(RecipeError, match="shadow for text-classification"):
        with serving({"m": folders["text-classification"]}, shadow=shadow):
            pass
    with pytest.raises(RecipeError, match="is for embeddings"):
        serve(ServeSettings({"m": str(folders["text-classification"])}, shadow=shadow))


def test_a_shadow_that_lags_or_fails_keeps_nobody_waiting():
    dropped = []

    class Slow:
        def predict(self, inputs):
            time.sleep(0.01)
            raise RuntimeError

        def close(self):
            pass

    shadow = Shadow(Slow(), SimpleNamespace(shadow_dropped=dropped.append))
    begun = time.monotonic()
    for _ in range(LAG + 50):
        shadow.compare(["a"], ["b"], {})
    assert time.monotonic() - begun < LAG * 0.01
    assert sum(dropped) >= 30
    shadow.close()


def test_an_answer_that_is_no_number_agrees_with_nothing(folders):
    with load(folders["text-classification"]) as predictor:
        (answer,) = predictor.predict(["a fine film"])
        broken = replace(answer, score=float("nan"))
        assert _alike(predictor.task, answer, answer) == 1
        assert _alike(predictor.task, answer, broken) == 0
