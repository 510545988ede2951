"""The examples for KServe and Ray Serve, exercised as far as this machine can."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from optkit.serving.package import package
from optkit.serving.predictor import load
from tests.serving.artifacts import artifact

FOLDER = Path(__file__).parent.parent / "integrations"


@pytest.fixture(scope="module")
def service():
    return yaml.safe_load((FOLDER / "kserve" / "inferenceservice.yaml").read_text(encoding="utf-8"))


def known(model: str) -> set[str]:
    """The fields of one of KServe's API types, read from its client library without importing it."""
    spec = find_spec("kserve")
    if spec is None:
        pytest.skip("kserve is not installed, so its schema is missing")
    tree = ast.parse((Path(spec.submodule_search_locations[0]) / "models" / f"{model}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "attribute_map":
            return set(ast.literal_eval(node.value).values())
    raise AssertionError(f"{model} has no attribute_map")


def test_the_inference_service_has_only_fields_that_kserve_knows(service):
    assert set(service) <= known("v1beta1_inference_service")
    assert set(service["spec"]) <= known("v1beta1_inference_service_spec")
    assert set(service["spec"]["predictor"]) <= known("v1beta1_predictor_spec")
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")


def test_the_container_is_the_image_that_optkit_packages(service, tmp_path):
    package(artifact(tmp_path / "m"), "docker", tmp_path / "image", name="sst2-int8")
    dockerfile = (tmp_path / "image" / "Dockerfile").read_text()
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["name"] == "kserve-container"  # the one that KServe routes to
    port = int(re.search(r"^EXPOSE (\d+)", dockerfile, re.M).group(1))
    assert container["ports"][0]["containerPort"] == port
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port
    assert container["readinessProbe"]["httpGet"]["path"] in dockerfile
    assert container["securityContext"]["runAsNonRoot"]
    assert re.search(r"^USER \d+$", dockerfile, re.M)  # a name would not pass runAsNonRoot


def test_ray_serve_answers_like_the_predictor(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    import urllib.error
    import urllib.request

    from ray import serve

    folder = artifact(tmp_path / "m")
    os.environ |= {"OPTKIT_MODEL": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    spec = importlib.util.spec_from_file_location("ray_serve_app", FOLDER / "ray_serve" / "app.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["ray_serve_app"] = module
    spec.loader.exec_module(module)

    def post(body: bytes):
        return urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8123/", data=body), timeout=30)

    serve.start(http_options={"host": "127.0.0.1", "port": 8123})
    try:
        serve.run(module.app)
        with load(folder) as predictor:
            for text in ("a fine film", "dull", "good " * 100):
                found = json.loads(post(json.dumps({"text": text}).encode()).read())
                assert found["label"] == predictor.predict_one(text).label
        with pytest.raises(urllib.error.HTTPError) as raised:
            post(b'{"txt": 1}')
        assert raised.value.code == 400
    finally:
        serve.shutdown()
