from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from optkit.errors import CheckpointError, MissingDependency, OptkitError
from optkit.models.checkpoint import fetch
from optkit.passes.base import apply, make
from optkit.passes.context import make_context
from optkit.runtimes.base import open_session
from optkit.tasks.base import open_task

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def graphs(checkpoint, tmp_path_factory):
    """The tiny checkpoint as a fused and a plain ONNX graph, and as an OpenVINO model."""
    source = fetch(checkpoint)
    context = make_context(open_task(source))
    folder = tmp_path_factory.mktemp("openvino")
    fused = apply(make("export-onnx", {}), source, folder / "fused", context)
    plain = apply(make("export-onnx", {"attention": "plain"}), source, folder / "plain", context)
    return {"fused": fused, "plain": plain, "ir": apply(make("open-vino", {}), fused, folder / "ir", context)}


@pytest.fixture(scope="module")
def batch(checkpoint):
    return open_task(fetch(checkpoint)).encode(["a fine film", "the plot is thin and dull"]).batch([0, 1])


def test_plain_onnx_is_read_directly(graphs, batch):
    with open_session(graphs["plain"], "openvino") as direct, open_session(graphs["ir"]) as ir:
        np.testing.assert_allclose(direct.infer(batch)["logits"], ir.infer(batch)["logits"], atol=1e-5)


def test_the_manifest_says_which_runtime_serves_it(graphs):
    assert graphs["ir"].manifest["runtime"] == {"name": "openvino", "options": {}}
    assert graphs["ir"].format == "openvino"


def test_precision_is_f32_unless_told_otherwise(graphs):
    with open_session(graphs["ir"]) as session:
        assert session.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    with open_session(graphs["ir"], precision="bf16", streams=2, threads=2) as session:
        assert session.compiled.get_property("NUM_STREAMS") == 2
        assert session.compiled.get_property("INFERENCE_NUM_THREADS") == 2


@pytest.mark.parametrize("options", [{"precision": "f23"}, {"hint": "latancy"}])
def test_a_misspelt_option_gets_the_nearest_name(graphs, options):
    with pytest.raises(OptkitError, match="one of") as raised:
        open_session(graphs["ir"], **options)
    assert "Did you mean" in raised.value.hint


def test_the_compiled_model_is_cached(graphs, tmp_path):
    with open_session(graphs["ir"], cache_dir=str(tmp_path)):
        assert list(tmp_path.glob("*.blob"))


def test_threads_share_a_session(graphs, batch):
    with open_session(graphs["ir"], threads=1) as session:
        one = {name: value[:1] for name, value in batch.items()}
        expected = {1: session.infer(one)["logits"], 2: session.infer(batch)["logits"]}
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: session.infer(batch if i % 2 else one)["logits"], range(64)))
    for i, logits in enumerate(found):
        np.testing.assert_allclose(logits, expected[2 if i % 2 else 1], atol=1e-6)


def test_a_closed_session_says_so(graphs, batch):
    session = open_session(graphs["ir"])
    session.close()
    with pytest.raises(OptkitError, match="closed"):
        session.infer(batch)


def test_a_damaged_model_is_a_checkpoint_error(graphs, tmp_path):
    import shutil

    from optkit.core.artifact import Artifact

    shutil.copytree(graphs["ir"].path, tmp_path / "ir")
    (tmp_path / "ir" / "openvino_model.xml").write_text("<net")
    with pytest.raises(CheckpointError, match="OpenVINO cannot load"):
        open_session(Artifact.open(tmp_path / "ir"))


def test_an_absent_package_names_its_extra(graphs, monkeypatch):
    monkeypatch.setattr("optkit.runtimes.settings.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency) as raised:
        open_session(graphs["ir"])
    assert "optkit[openvino]" in raised.value.hint


def test_it_serves_without_torch_onnx_and_nncf(graphs):
    code = f"""
    import sys, optkit
    with optkit.load({str(graphs["ir"].path)!r}) as model:
        assert model.predict(["a fine film"])[0].label in ("negative", "positive")
    loaded = {{"torch", "nncf", "onnx", "transformers", "onnxruntime"}} & set(sys.modules)
    assert not loaded, loaded
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", ["in another thread", "the older one first"])
def test_a_signal_is_safe_whoever_closes_a_model(way, graphs):
    script = f"""
        import gc, os, signal, threading
        from optkit.core.artifact import Artifact
        from optkit.runtimes.base import open_session

        one, two = (open_session(Artifact.open({str(graphs["ir"].path)!r})) for _ in range(2))

        def close():
            one.close()
            gc.collect()

        if {way!r} == "in another thread":
            thread = threading.Thread(target=close)
            thread.start()
            thread.join()
        else:
            close()
        two.close()
        gc.collect()
        signal.signal(signal.SIGTERM, lambda *_: print("handled"))
        os.kill(os.getpid(), signal.SIGTERM)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "handled"), done.stderr
