"""The runtime `tensorrt` on the strict fake: answers, profiles, graphs, memory."""

from __future__ import annotations

import numpy as np
import pytest

from optkit.errors import MissingDependency, OptkitError
from optkit.passes.base import apply, make
from optkit.runtimes.base import open_session
from optkit.runtimes.cuda import probe as cuda_probe
from tests.gpu import fake_cuda, install


def feeds_of(session, batch, tokens, padding=0, seed=0):
    ids = np.random.default_rng(seed).integers(5, 20, (batch, tokens))
    mask = np.ones_like(ids)
    if padding:
        mask[-1, -padding:] = 0
    made = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {s.name: made[s.name] for s in session.inputs}


SHAPES = [(1, 1), (1, 17), (3, 12), (8, 64), (5, 33), (19, 9)]


@pytest.mark.parametrize("graphs", [True, False])
def test_answers_equal_those_of_onnx_runtime(graphs, trt, engine, plain):
    with open_session(plain) as reference, open_session(engine, graphs=graphs) as session:
        for repeat in range(4):  # plain, captured, launched, launched
            for batch, tokens in SHAPES:
                feeds = feeds_of(session, batch, tokens, tokens // 2, seed=repeat)
                np.testing.assert_allclose(
                    session.infer(feeds)["logits"], reference.infer(feeds)["logits"], atol=2e-5
                )


def test_a_graph_is_captured_per_bucket_and_then_launched(trt, engine, machine):
    with open_session(engine) as session:
        for batch, tokens in [(3, 18), (4, 20), (3, 30), (4, 32)]:  # one bucket: 4 x 32
            session.infer(feeds_of(session, batch, tokens))
        assert (machine.captures, machine.launches) == (1, 3)
        session.infer(feeds_of(session, 8, 32))
        assert (machine.captures, machine.launches) == (1, 3)


def test_without_graphs_nothing_is_captured(trt, engine, machine):
    with open_session(engine, graphs=False) as session:
        for _ in range(3):
            session.infer(feeds_of(session, 2, 7))
    assert machine.captures == 0


def test_the_profile_follows_the_batch(trt, engine):
    with open_session(engine, graphs=False) as session:
        edge = session._profiles[0].tokens[2]
        session.infer(feeds_of(session, 1, edge))
        assert {k[0] for k in session._executions} == {0}
        session.infer(feeds_of(session, 1, edge + 1))
        assert {k[0] for k in session._executions} == {0, 1}


def test_too_many_tokens_are_refused(trt, engine):
    with open_session(engine) as session, pytest.raises(OptkitError, match="at most 64 tokens"):
        session.infer(feeds_of(session, 1, 65))


def test_old_contexts_are_closed_and_all_memory_goes_back(trt, engine, machine, monkeypatch):
    monkeypatch.setattr("optkit.runtimes.tensorrt.MOST_CONTEXTS", 2)
    with open_session(engine) as session:
        for tokens in (1, 17, 33, 49, 1):
            session.infer(feeds_of(session, 1, tokens))
        assert len(session._executions) == 2
        assert machine.memory
    assert not machine.memory
    assert not machine.pinned


def test_weight_streaming_takes_a_budget(trt, plain, context, tmp_path):
    made = apply(make("tensorrt", {"weight_streaming": True}), plain, tmp_path / "e", context)
    with open_session(made, streaming_mib=16) as session:
        assert session._engine.weight_streaming_budget_v2 == 16 * 2**20


def test_tensorrt_is_not_touched_without_a_gpu(trt, engine, monkeypatch):
    trt._calls.clear()
    install.gpu(monkeypatch, devices=0)
    with pytest.raises(OptkitError, match="Expected an NVIDIA GPU number 0, but the driver shows 0"):
        open_session(engine)
    assert not trt._calls


def test_a_missing_library_names_the_extra(engine, monkeypatch):
    import sys

    monkeypatch.delitem(sys.modules, "tensorrt")
    with pytest.raises(MissingDependency) as raised:
        open_session(engine)
    assert "optkit[tensorrt]" in raised.value.hint


def test_no_driver_no_gpu_and_a_broken_driver_are_one_clear_error_each(tmp_path):
    def missing(name):
        raise OSError(name)

    with pytest.raises(OptkitError, match=r"libcuda.so.1|nvcuda"):
        cuda_probe.probe(load=missing)
    with pytest.raises(OptkitError, match="cuInit answered error 999"):
        cuda_probe.probe(load=lambda n: fake_cuda.driver(init=999))
    with pytest.raises(OptkitError, match="shows 0"):
        cuda_probe.probe(load=lambda n: fake_cuda.driver(init=100))


def test_the_driver_tells_what_gpu_it_is(tmp_path):
    file = tmp_path / "version"
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n")
    found = cuda_probe.probe(load=lambda n: fake_cuda.driver(), version_file=file)
    assert (found.name, found.capability, found.cuda) == ("Fake H200", "9.0", "13.1")
    assert (found.memory_bytes, found.driver) == (141 * 2**30, "580.65.06")
