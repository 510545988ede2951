from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optkit.benchmarking.gate import Gate
from optkit.compression.recipe import Recipe
from optkit.compression.recipe_template import template
from optkit.compression.steps import AnyOf, suited
from optkit.errors import MissingDependency, RecipeError
from optkit.passes.base import make
from optkit.report.interval import Interval
from optkit.report.model import Row

GOOD = """
target = "cpu"
[gate]
max_drop = "0.02"
min_speedup = 1.5
[[steps]]
pass = "export-onnx"
attention = "plain"
[[steps]]
any_of = [{ pass = "quantize-dynamic" }, [{ pass = "quantize-static", exclude = ["a"] }]]
"""


def write(tmp_path, text, name="recipe.toml"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_toml_and_json_give_the_same_recipe(tmp_path):
    recipe = Recipe.load(write(tmp_path, GOOD))
    assert recipe.gate == Gate(0.02, False, 1.5)
    assert recipe.steps[0] == make("export-onnx", {"attention": "plain"})
    assert recipe.steps[1].options[1][0].exclude == ("a",)
    text = json.dumps(recipe.to_dict())
    assert Recipe.load(write(tmp_path, text, "recipe.json")) == recipe


def test_the_template_is_the_int8_recipe_and_names_every_field(tmp_path):
    assert Recipe.load(write(tmp_path, template())) == Recipe.int8()
    for name in ("export-onnx", "quantize-dynamic", "quantize-static"):
        for field in make(name, {}).parameters():
            assert f"# {field} = " in template()


def test_chains_are_every_way_to_a_candidate():
    recipe = Recipe.int8(runtime="onnxruntime")
    names = [[step.name() for step in chain] for chain in recipe.chains()]
    assert names == [["export-onnx", "quantize-dynamic"], ["export-onnx", "quantize-static"]]


def test_without_vnni_int8_keeps_weights_to_7_bits(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "optkit.core.cpu.read", lambda file: "flags : fpu avx2\n" if "cpuinfo" in file else ""
    )
    recipe = Recipe.int8()
    assert all(chain[-1].reduce_range for chain in recipe.chains())
    assert Recipe.load(write(tmp_path, template())) == recipe


@pytest.fixture
def without(monkeypatch):
    """without("nncf"): as if that package were not installed."""

    def hide(*packages):
        monkeypatch.setattr("optkit.compression.engines._installed", lambda name: name not in packages)

    return hide


def last_passes(recipe):
    return [chain[-1].name() for chain in recipe.chains()]


def test_int8_tries_every_engine_that_is_installed(without):
    without()
    assert last_passes(Recipe.int8()) == ["quantize-dynamic", "quantize-static", "open-vino-int8"]
    assert last_passes(Recipe.int8(runtime="openvino")) == ["open-vino-int8"]
    assert Recipe.from_dict(Recipe.int8().to_dict()) == Recipe.int8()
    without("nncf")
    assert last_passes(Recipe.int8()) == ["quantize-dynamic", "quantize-static"]


@pytest.mark.parametrize("absent", ["openvino", "nncf"])
def test_an_engine_that_is_not_installed_names_its_extra(without, absent):
    without(absent)
    with pytest.raises(MissingDependency, match=absent) as raised:
        Recipe.int8(runtime="openvino")
    assert "optkit[openvino]" in raised.value.hint


def test_an_unknown_engine_gets_the_nearest_name():
    with pytest.raises(RecipeError, match="received 'openvnio'") as raised:
        Recipe.int8(runtime="openvnio")
    assert "'openvino'" in raised.value.hint


def test_batch_invariance_is_kept_by_a_recipe():
    recipe = Recipe.int8(Gate(batch_invariant=True), "onnxruntime")
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert "batch" in recipe.gate.describe()
    with pytest.raises(RecipeError, match="true or false"):
        Gate(batch_invariant="yes")


@pytest.mark.parametrize(
    ("before", "after", "line", "message", "hint"),
    [
        ('pass = "export-onnx"', 'pass = "exprot-onnx"', 7, "Unknown pass", "export-onnx"),
        ("attention =", "atention =", 8, "no field 'atention'", "attention"),
        ('"plain"', '"plian"', 8, "received 'plian'", "plain"),
        ("[gate]", "[gates]", 3, "Unknown key 'gates'", "gate"),
        ("max_drop", "max_dorp", 4, "Unknown key 'max_dorp'", "max_drop"),
        ('target = "cpu"', 'target = "gpu"', 2, "Unknown target 'gpu'", "cpu"),
        ('exclude = ["a"]', "samples = 0", 10, "from 1 to 2,147,483,647, received 0", None),
    ],
)
def test_a_mistake_names_file_line_and_nearest_name(tmp_path, before, after, line, message, hint):
    file = write(tmp_path, GOOD.replace(before, after))
    with pytest.raises(RecipeError, match=message) as raised:
        Recipe.load(file)
    assert f"{file}:{line}:" in str(raised.value)
    assert hint is None or hint in raised.value.hint


@pytest.mark.parametrize("text", ["[[steps]", "steps = 3", 'steps = ["x"]', "[[steps]]\nx = 1", "", "\x00"])
def test_what_is_no_recipe_is_refused(tmp_path, text):
    with pytest.raises(RecipeError):
        Recipe.load(write(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="Cannot read"):
        Recipe.load(tmp_path / "no.toml")


def test_a_wrong_order_says_what_was_expected_and_what_to_put_before():
    with pytest.raises(RecipeError, match="Step 1, quantize-dynamic, expects the format onnx") as raised:
        Recipe((make("quantize-dynamic", {}), make("export-onnx", {})))
    assert "export-onnx" in raised.value.hint
    with pytest.raises(RecipeError, match=r"received 'onnx' from export-onnx \(step 1\)"):
        Recipe((make("export-onnx", {}), make("export-onnx", {})))


def test_a_pass_on_the_checkpoint_after_the_export_is_explained():
    with pytest.raises(RecipeError, match=r"received 'onnx' from export-onnx \(step 1\)") as raised:
        Recipe.of(["export-onnx", "prune"])
    assert "put it before export-onnx" in raised.value.hint


@pytest.mark.parametrize(
    ("names", "right"),
    [
        (["prune", "distill"], True),
        (["prune", "distill", "prune", "distill"], True),
        (["distill"], True),
        (["distill", "prune"], False),
        (["prune", "distill", "prune"], False),
    ],
)
def test_distillation_comes_after_pruning(names, right):
    from optkit.compression.steps import check_repair

    if right:
        check_repair(names)
    else:
        with pytest.raises(RecipeError, match="after the last 'prune'"):
            check_repair(names)


def test_a_list_of_passes_and_names_is_a_recipe():
    from optkit import Prune

    recipe = Recipe.of([Prune(0.6), "int8"])
    assert [s.name() for s in recipe.chains()[1]] == ["prune", "export-onnx", "quantize-static"]
    assert recipe.chains()[0][0].share == 0.6
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(RecipeError, match="Unknown pass 'prun'"):
        Recipe.of(["prun"])


def test_an_empty_alternative_is_refused():
    with pytest.raises(RecipeError, match="at least one pass"):
        AnyOf(((),))


@pytest.mark.parametrize(
    ("text", "drop", "relative"), [("1%", 0.01, True), ("0.01", 0.01, False), ("0", 0, False)]
)
def test_percent_is_relative_and_a_number_is_absolute(text, drop, relative):
    gate = Gate.parse(text)
    assert (gate.max_drop, gate.relative) == (drop, relative)


@given(st.text(max_size=8))
def test_any_text_is_a_gate_or_a_recipe_error(text):
    try:
        gate = Gate.parse(text)
    except RecipeError:
        return
    assert 0 <= gate.max_drop < 1


@pytest.mark.parametrize("text", ["-1%", "150%", "1", "abc", "", "1%%", "nan", "inf"])
def test_a_drop_that_makes_no_sense_is_refused(text):
    with pytest.raises(RecipeError, match="--max-drop"):
        Gate.parse(text)


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan", "inf"])
def test_a_speedup_that_makes_no_sense_is_refused(speed):
    with pytest.raises(RecipeError, match="--min-speedup"):
        Gate.parse("1%", speed)


def row(score: float, speed: tuple[float, float, float] | None) -> Row:
    ratio = Interval(*speed) if speed else None
    return Row("x", "x", "fake", "int8", 1, score, 0, 1, [], ratio, 1, 0, "")


@pytest.mark.parametrize(
    ("gate", "score", "passes"),
    [
        (Gate(0.01, True), 0.792, True),
        (Gate(0.01, True), 0.791, False),
        (Gate(0.01, False), 0.79, True),
        (Gate(0.01, False), 0.789, False),
        (Gate(None), 0.1, True),
        (Gate(0.01, True), float("nan"), False),
    ],
)
def test_the_drop(gate, score, passes):
    assert (gate.reasons(row(score, None), row(0.8, None)) == []) == passes


def test_the_speedup_must_hold_at_the_lower_end_of_its_interval():
    gate, base = Gate(None, min_speedup=1.5), row(1, None)
    assert gate.reasons(row(1, (2.0, 1.6, 2.5)), base) == []
    assert "at least 1.40" in gate.reasons(row(1, (2.0, 1.4, 2.9)), base)[0]
    assert "unknown" in gate.reasons(row(1, None), base)[0]


def test_what_is_slower_than_tuned_fp32_fails_only_when_that_is_shown():
    tuned = row(1, (2.0, 1.9, 2.1))
    assert "slower" in Gate(None).reasons(row(1, (1.5, 1.4, 1.6)), row(1, None), tuned)[0]
    assert Gate(None).reasons(row(1, (1.8, 1.6, 2.0)), row(1, None), tuned) == []


def test_what_was_not_timed_or_not_probed_does_not_pass():
    nan = float("nan")
    tuned, base = row(1, (2.0, 1.9, 2.1)), row(1, None)
    for unknown in (None, (2.0, nan, 2.1), (2.0, 1.9, nan), (nan, nan, nan)):
        assert "is not known" in Gate(None).reasons(row(1, unknown), base, tuned)[0]
        assert "is not known" in Gate(None).reasons(tuned, base, row(1, unknown))[0]
    assert "is unknown" in Gate(None, min_speedup=1.5).reasons(row(1, (2.0, nan, 2.5)), base)[0]
    quantized = row(1, None)
    base.precision = "fp32"
    for precision in ("int8", "weight-only"):  # kernels may round activations of either
        unasked = replace(quantized, precision=precision)
        assert "it was not probed" in Gate(None, batch_invariant=True).reasons(unasked, base)[0]
    assert Gate(None, batch_invariant=True).reasons(base, base) == []


@given(st.floats(0, 1, exclude_max=True), st.booleans(), st.none() | st.floats(0.001, 1000))
def test_any_gate_reads_back_exactly(drop, relative, speed):
    recipe = Recipe((make("export-onnx", {}),), Gate(drop, relative, speed))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["pass", "any_of", "opset", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.fixed_dictionaries({}, optional={"steps": VALUES, "gate": VALUES, "target": VALUES}))
def test_any_value_is_a_recipe_or_a_recipe_error(value):
    with contextlib.suppress(RecipeError):
        Recipe.from_dict(value)


@pytest.mark.parametrize("key", ["max_drop", "min_speedup"])
@pytest.mark.parametrize("value", [[1], True, {}, "abc"])
def test_a_gate_of_another_type_is_refused(key, value):
    with pytest.raises(RecipeError, match="received"):
        Recipe.from_dict({"gate": {key: value}, "steps": [{"pass": "export-onnx"}]})


@pytest.mark.parametrize("values", [{"max_drop": -1}, {"max_drop": float("nan")}, {"min_speedup": 0}])
def test_a_gate_made_in_python_is_checked_too(values):
    with pytest.raises(RecipeError, match="received"):
        Gate(**values)


def test_a_small_number_in_toml_is_an_absolute_drop(tmp_path):
    text = GOOD.replace('"0.02"', "0.00001")
    assert Recipe.load(write(tmp_path, text)).gate == Gate(0.00001, False, 1.5)


THREE = """[[steps]]
pass = "export-onnx"
attention = "plain"

[[steps]]
pass = "quantize-dynamic"
per_channel = true
"""


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("per_channel", "attention", 7, "step 2: quantize-dynamic has no field"),
        ('"quantize-dynamic"', '"export-onnx"', 7, "step 2: export-onnx has no field 'per_channel'"),
        ('pass = "quantize-dynamic"\nper_channel = true', 'pass = "export-onnx"', 5, "Step 2, export-onnx"),
        ('pass = "export-onnx"\nattention = "plain"', 'pass = "quantize-dynamic"', 1, "Step 1, quantize"),
    ],
)
def test_the_line_is_that_of_the_step_and_not_of_a_namesake(tmp_path, before, after, line, message):
    file = write(tmp_path, THREE.replace(before, after))
    with pytest.raises(RecipeError, match=message) as raised:
        Recipe.load(file)
    assert str(raised.value).startswith(f"{file}:{line}: ")


def test_no_line_is_named_where_it_would_be_a_guess(tmp_path):
    steps = [
        {"pass": "export-onnx", "attention": "plain"},
        {"pass": "quantize-dynamic", "attention": "plain"},
    ]
    file = write(tmp_path, json.dumps({"steps": steps}, indent=1), "recipe.json")
    with pytest.raises(RecipeError, match="step 2: ") as raised:
        Recipe.load(file)
    assert str(raised.value).startswith(f"{file}: ")


def test_steps_are_numbered_as_in_the_recipe():
    both = AnyOf(((make("export-onnx", {}), make("quantize-dynamic", {})),))
    with pytest.raises(RecipeError, match=r"Step 2, .* from quantize-dynamic \(step 1\)"):
        Recipe((both, make("export-onnx", {})))


def test_names_in_place_of_passes_are_refused_and_lists_become_tuples():
    with pytest.raises(RecipeError, match="Expected step 1 to be a pass, received 'export-onnx'"):
        Recipe(("export-onnx",))
    assert Recipe([make("export-onnx", {})]) == Recipe((make("export-onnx", {}),))


def test_a_file_from_windows_loads(tmp_path):
    (tmp_path / "r.TOML").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert Recipe.load(tmp_path / "r.TOML").target == "cpu"


def test_int8_of_a_model_that_continues_texts_is_of_weights_alone():
    recipe, task = (
        Recipe.of(["prune", "int8"], runtime="onnxruntime"),
        Mock(generates=True, has_encoder=False),
    )
    chains = replace(recipe, steps=suited(recipe.steps, task)).chains()
    assert [[step.name() for step in chain] for chain in chains] == [
        ["prune", "export-onnx", "quantize-weights"]
    ]
    for other in (Mock(generates=False, has_encoder=False), Mock(generates=True, has_encoder=True)):
        assert suited(recipe.steps, other) == recipe.steps
