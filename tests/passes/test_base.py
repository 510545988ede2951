from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from optkit.core.artifact import Artifact
from optkit.errors import RecipeError
from optkit.passes import PASSES
from optkit.passes.base import Pass, apply, make, param


@dataclass(frozen=True)
class CopyWeights(Pass):
    """Copy the weights and nothing else."""

    accepts: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"

    share: float = param(0.5, "a share", minimum=0, maximum=1)
    method: str = param("fast", "a method", choices=("fast", "good"))
    names: tuple[str, ...] = param((), "some names")
    count: int | None = param(None, "a count", minimum=1)
    fail: bool = param(False, "fail half-way")

    def run(self, source, out, context):
        for file in ("model.safetensors", "config.json"):
            (out / file).write_bytes((source.path / file).read_bytes())
        if self.fail:
            raise ValueError("half-way")
        return {"copied": 2}


def test_the_name_is_the_class_in_kebab_case():
    assert CopyWeights.name() == "copy-weights"


def test_applying_gives_an_artifact_that_knows_its_step(checkpoint, context, tmp_path):
    made = apply(CopyWeights(share=1), Artifact.open(checkpoint), tmp_path / "out", context)
    step = made.lineage[-1]
    assert step["pass"] == "copy-weights"
    assert step["parameters"] == {"share": 1.0, "method": "fast", "names": [], "count": None, "fail": False}
    assert step["notes"] == {"copied": 2}
    assert step["seconds"] >= 0
    assert made.precision == "fp32"


def test_a_pass_that_fails_leaves_nothing(checkpoint, context, tmp_path):
    with pytest.raises(ValueError, match="half-way"):
        apply(CopyWeights(fail=True), Artifact.open(checkpoint), tmp_path / "out", context)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("share", 1.5, "0 to 1, received 1.5"),
        ("share", float("nan"), "a number from 0 to 1, received nan"),
        ("share", "half", "float, received 'half'"),
        ("method", "godo", "fast, good, received 'godo'"),
        ("names", "one", "received 'one'"),
        ("count", 0, "from 1 to 2,147,483,647, received 0"),
        ("count", True, "received True"),
        ("fail", 1, "bool, received 1"),
    ],
)
def test_bad_values_are_refused_when_the_pass_is_made(field, value, message):
    with pytest.raises(RecipeError, match=message):
        CopyWeights(**{field: value})


def test_a_list_from_toml_becomes_a_tuple():
    assert CopyWeights(names=["a", "b"]).names == ("a", "b")


def test_a_wrong_choice_gets_the_nearest_one():
    with pytest.raises(RecipeError) as raised:
        CopyWeights(method="godo")
    assert raised.value.hint == "Did you mean 'good'?"


def test_the_passes_are_found_by_their_files():
    assert {"export-onnx", "quantize-dynamic", "quantize-static"} <= set(PASSES)


@pytest.mark.parametrize("name", [3, ["export-onnx"], None])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(RecipeError, match="Unknown pass"):
        make(name, {})


def test_a_wrong_format_is_refused_before_anything_is_written(exported, context, tmp_path):
    with pytest.raises(RecipeError, match="copy-weights takes hf, received 'onnx'"):
        apply(CopyWeights(), exported, tmp_path / "out", context)
    assert list(tmp_path.iterdir()) == []


def test_misspelt_pass_and_field_get_the_nearest_name():
    with pytest.raises(RecipeError, match="Unknown pass") as raised:
        make("quantise-dynamic", {})
    assert raised.value.hint == "Did you mean 'quantize-dynamic'?"
    with pytest.raises(RecipeError, match="no field 'per_chanel'") as raised:
        make("quantize-dynamic", {"per_chanel": True})
    assert raised.value.hint == "Did you mean 'per_channel'?"
