"""When `rest = "auto"` becomes bf16, and which CPUs a manifest that says bf16 is believed on."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from optkit.core.artifact import MANIFEST, Artifact
from optkit.errors import PassError
from optkit.passes import bf16_probe
from optkit.passes.base import apply, make
from optkit.passes.open_vino import convert
from optkit.runtimes.base import open_session
from optkit.runtimes.vino_core import core, has_bf16

pytest.importorskip("openvino")
ZEN4, XEON = {"avx512f", "avx512_bf16", "avx512_vnni"}, {"avx512_bf16", "amx_bf16", "amx_tile"}


@pytest.fixture(scope="module")
def plain(exported):
    return convert(exported)[0]


@pytest.fixture
def machine(monkeypatch):
    """machine(flags, bf16, name) makes this CPU another one."""

    def be(flags, bf16=True, name="AMD EPYC 9454"):
        monkeypatch.setattr("optkit.core.cpu.flags", lambda: frozenset(flags))
        monkeypatch.setattr("optkit.core.cpu.model", lambda: name)
        for module in ("optkit.passes.bf16_probe", "optkit.runtimes.vino_core"):
            monkeypatch.setattr(f"{module}.has_bf16", lambda: bf16)

    return be


@pytest.mark.parametrize(
    ("rest", "flags", "bf16", "product", "whole", "expected"),
    [
        ("auto", ZEN4, True, 0.004, 0.01, "bf16"),
        ("auto", ZEN4, True, 1.0, 0.01, "f32"),  # openvinotoolkit/openvino#38256
        ("auto", ZEN4, True, 0.004, 0.5, "f32"),
        ("auto", XEON, True, 0.004, 0.01, "bf16"),
        ("auto", XEON, True, 1.0, 0.01, "f32"),  # no CPU is taken at its word
        ("auto", {"avx2"}, False, None, None, "f32"),
        ("auto", set(), True, 0.004, 0.01, "bf16"),  # the system does not tell, the probe does
        ("f32", ZEN4, True, None, None, "f32"),
        ("bf16", ZEN4, True, 0.004, 0.5, "bf16"),  # asked for, and no product is wrong
        ("bf16", ZEN4, True, 1.0, 0.01, PassError),
    ],
)
def test_bf16_is_chosen_where_it_agrees(
    monkeypatch, machine, context, plain, rest, flags, bf16, product, whole, expected
):
    machine(flags, bf16)
    asked = []

    def compare(model, feeds):
        asked.append(model)
        return whole if model is plain else product

    monkeypatch.setattr(bf16_probe, "compare", compare)
    samples = context.encoded("train", 16)
    if expected is PassError:
        with pytest.raises(PassError, match="Products in bf16 on this CPU .* differ"):
            bf16_probe.choose(rest, plain, plain, samples)
        return
    notes = bf16_probe.choose(rest, plain, plain, samples)
    assert notes["rest"] == expected
    assert notes.get("bf16_proven_on") == ("AMD EPYC 9454" if expected == "bf16" else None)
    assert bool(asked) is (product is not None)


def test_products_are_the_model_s_own(plain, exported):
    shapes = set()
    for one, feeds in bf16_probe.products(plain):
        (batch, *_) = feeds
        compiled = core().compile_model(one, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        shapes.add((batch["rows"].shape[1], compiled(batch)[0].shape[1]))
    assert shapes == {(32, 96), (32, 32), (32, 64), (64, 32), (32, 2)}  # 96: query, key, value


@pytest.mark.skipif(not has_bf16(), reason="this CPU has no bf16")
def test_rounding_on_this_cpu_is_far_below_the_limits(plain, context):
    for one, feeds in bf16_probe.products(plain):
        assert 0 < bf16_probe.compare(one, feeds) < bf16_probe.OF_PRODUCT / 2, one
    whole = bf16_probe.compare(plain, bf16_probe.batches(plain, context.encoded("train", 16)))
    assert 0 < whole < bf16_probe.OF_MODEL


def test_wrong_products_are_seen(monkeypatch, plain):
    """A core whose bf16 gives other numbers, as the report describes."""

    class Wrong:
        def compile_model(self, model, device, settings):
            compiled = core().compile_model(model, device, {"INFERENCE_PRECISION_HINT": "f32"})
            if settings["INFERENCE_PRECISION_HINT"] == "f32":
                return compiled
            return lambda feeds: {k: np.roll(v, 1, axis=-1) for k, v in compiled(feeds).items()}

    monkeypatch.setattr(bf16_probe, "core", Wrong)
    assert all(
        bf16_probe.compare(one, feeds) > 10 * bf16_probe.OF_PRODUCT
        for one, feeds in bf16_probe.products(plain)
    )


@pytest.mark.parametrize(
    ("flags", "bf16", "proven_on", "precision"),
    [
        (XEON, True, None, "bf16"),
        (ZEN4, True, None, "f32"),
        (ZEN4, True, "AMD EPYC 9454", "bf16"),
        (ZEN4, True, "Intel(R) Xeon(R) Processor", "f32"),
        (ZEN4, True, ["a", {"list": 1}], "f32"),
        ({"avx512f"}, False, "AMD EPYC 9454", "f32"),  # OpenVINO would emulate it
        (set(), True, None, "f32"),
    ],
)
def test_a_manifest_s_bf16_is_believed_where_it_was_proven(
    exported, context, tmp_path, machine, caplog, flags, bf16, proven_on, precision
):
    made = apply(make("open-vino", {}), exported, tmp_path / "ir", context)
    manifest = json.loads((made.path / MANIFEST).read_text())
    manifest["runtime"]["options"] = {"precision": "bf16"}
    manifest["lineage"][-1]["notes"]["bf16_proven_on"] = proven_on
    (made.path / MANIFEST).write_text(json.dumps(manifest))
    made = Artifact.open(made.path)
    machine(flags, bf16)
    with caplog.at_level(logging.WARNING, "optkit"), open_session(made) as session:
        assert session.precision == precision
        assert session.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() in (precision, "f32")
    assert ("in place of bf16 on this CPU" in caplog.text) is (precision == "f32")
    with open_session(made, precision="bf16") as session:  # the caller's word
        assert session.precision == "bf16"


def test_the_manifest_says_what_was_chosen(exported, context, tmp_path):
    made = apply(make("open-vino-int8", {"samples": 16}), exported, tmp_path / "int8", context)
    notes = made.lineage[-1]["notes"]
    assert made.manifest["runtime"]["options"] == {"precision": notes["rest"]}
    assert ("bf16_product_difference" in notes) is has_bf16()
