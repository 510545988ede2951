"""`--target cuda`: what is tried on a GPU, and what a machine without one says."""

from __future__ import annotations

import pytest

from optkit.benchmarking.gate import Gate
from optkit.benchmarking.targets import gpu_chains, require, target_of, tuned
from optkit.compression.compress import compress
from optkit.compression.recipe import Recipe
from optkit.compression.steps import AnyOf
from optkit.core.artifact import Artifact
from optkit.errors import OptkitError, RecipeError
from optkit.passes.base import make
from optkit.runtimes.base import open_session
from optkit.runtimes.cuda.probe import Gpu
from tests.gpu import install

H200 = Gpu("NVIDIA H200", "9.0", 141 * 2**30, "13.1", "580.65.06")
A100 = Gpu("NVIDIA A100", "8.0", 80 * 2**30, "12.9", None)


def leaves(chains):
    return [(chain[-1][0], {k: v for k, v in chain[-1][1].items() if k != "device"}) for chain in chains]


def test_with_torch_alone_half_precision_is_tried_eager_and_compiled():
    assert leaves(gpu_chains(H200, lambda package: False)) == [
        ("serve-torch", {"dtype": dtype, "compile": on}) for dtype in ("fp16", "bf16") for on in (False, True)
    ]


def test_every_library_that_is_there_adds_its_ways():
    names = [[one[0] for one in chain] for chain in gpu_chains(H200, lambda package: True)]
    assert names.count(["serve-torch"]) == 6
    assert ["export-onnx", "cast-fp16", "serve-onnx-runtime"] in names
    assert ["export-onnx", "cast-bf16", "tensorrt"] in names
    assert names.count(["export-onnx", "quantize-tensorrt", "cast-fp16", "tensorrt"]) == 2


def test_fp8_is_tried_where_the_gpu_has_it():
    def kinds(gpu):
        chains = gpu_chains(gpu, lambda package: True)
        return {f.get("quantize", f.get("kind")) for chain in chains for _, f in chain}

    assert "fp8" in kinds(H200)
    assert "fp8" not in kinds(A100)


def test_every_way_is_a_valid_recipe(monkeypatch):
    monkeypatch.setattr("optkit.compression.engines.require", lambda target: H200)
    monkeypatch.setattr("optkit.benchmarking.targets.installed", lambda package: True)
    recipe = Recipe.of(["prune", "cuda"])
    assert recipe.target == "cuda"
    assert len(recipe.chains()) == 11
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_without_a_driver_there_is_one_clear_error(monkeypatch):
    install.gpu(monkeypatch, devices=0)
    with pytest.raises(OptkitError, match="Expected an NVIDIA GPU number 0"):
        Recipe.of(["cuda"])


def test_a_torch_without_cuda_says_so(monkeypatch):
    install.gpu(monkeypatch)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(OptkitError, match="Expected a torch that can use the Fake H200"):
        require("cuda")


def test_a_recipe_for_a_gpu_is_refused_before_any_work(monkeypatch, checkpoint, data, tmp_path):
    install.gpu(monkeypatch, devices=0)
    recipe = Recipe((make("serve-torch", {"device": "cuda"}),), target="cuda")
    with pytest.raises(OptkitError, match="NVIDIA GPU"):
        compress(checkpoint, recipe, data=data, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_fp8_needs_half_precision():
    with pytest.raises(RecipeError, match="fp8 needs dtype"):
        make("serve-torch", {"dtype": "fp32", "quantize": "fp8"})


@pytest.fixture
def chosen(monkeypatch, checkpoint, data, tmp_path):
    """The whole of `--target cuda`, its GPU played by the CPU; the probe and the peaks are replaced."""
    from optkit.benchmarking.roofline import Peak

    ways = [[("serve-torch", {"dtype": dtype})] for dtype in ("fp32", "bf16")]
    monkeypatch.setattr("optkit.compression.engines.require", lambda target: H200)
    monkeypatch.setattr("optkit.compression.compress.require", lambda target: H200)
    monkeypatch.setattr("optkit.compression.conclusion.require", lambda target: H200)
    monkeypatch.setattr("optkit.compression.engines.gpu_chains", lambda gpu: ways)
    monkeypatch.setattr("optkit.compression.chain.eager_options", lambda target: {"attention": "eager"})
    monkeypatch.setattr(
        "optkit.compression.chain.tuned",
        lambda target: (tuned(target)[0], [("serve-torch", {"dtype": "fp32"})]),
    )
    peak = Peak(fp32=1e15, int8=1e15, bandwidth=1e15, fp16=1e15, bf16=1e15)
    monkeypatch.setattr("optkit.benchmarking.evaluation.Evaluator._peak", lambda self: peak)
    recipe = Recipe.of(["cuda"], Gate(max_drop=0.5, relative=False))
    quick = {"shapes": ("1xdata", "2x16"), "rounds": 2, "processes": 1, "threads": 1}
    return compress(checkpoint, recipe, data=data, out=tmp_path / "out", **quick), tmp_path / "out"


def test_the_ways_are_measured_side_by_side_and_one_is_chosen(chosen):
    report, out = chosen
    assert report.target == "cuda"
    assert report.environment.gpu["name"] == "NVIDIA H200"
    assert report.environment.transfers == "included"
    assert [row.verdict for row in report.rows[:1]] == ["baseline"]
    assert {row.runtime for row in report.rows} == {"torch"}
    assert all(row.speedup for row in report.rows[1:])
    artifact = Artifact.open(out)
    assert artifact.manifest["runtime"]["options"]["dtype"] in ("fp32", "bf16")
    with open_session(artifact) as session:
        assert session.inputs


def test_where_an_artifact_is_served_is_read_from_it(checkpoint, tmp_path):
    artifact = Artifact.open(checkpoint)
    assert target_of(artifact) == "cpu"
    on_gpu = {**artifact.manifest, "runtime": {"name": "torch", "options": {"device": "cuda"}}}
    assert target_of(Artifact(artifact.path, on_gpu)) == "cuda"
    assert target_of(Artifact(artifact.path, {**artifact.manifest, "format": "tensorrt"})) == "cuda"


def test_a_choice_is_part_of_the_recipe(monkeypatch):
    monkeypatch.setattr("optkit.compression.engines.require", lambda target: A100)
    assert isinstance(Recipe.of(["cuda"]).steps[0], AnyOf)
