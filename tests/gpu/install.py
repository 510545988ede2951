"""Puts the fakes where optkit looks for the real ones."""

from __future__ import annotations

import sys
import types
from pathlib import Path

from optkit.runtimes.cuda.probe import probe
from tests.gpu import fake_cuda, fake_tensorrt


def gpu(monkeypatch, **properties) -> None:
    """A driver that shows one GPU (see `fake_cuda.driver`)."""
    library = fake_cuda.driver(**properties)
    gone = Path("/nonexistent")
    monkeypatch.setattr(
        "optkit.runtimes.cuda.probe.probe", lambda: probe(load=lambda n: library, version_file=gone)
    )


def bindings(monkeypatch, machine) -> None:
    module = fake_cuda.bindings(machine)
    package, outer = types.ModuleType("cuda.bindings"), types.ModuleType("cuda")
    for name, value in (("cuda", outer), ("cuda.bindings", package), ("cuda.bindings.runtime", module)):
        monkeypatch.setitem(sys.modules, name, value)
    monkeypatch.setattr("optkit.runtimes.cuda.device._choose", lambda: "cuda-bindings")


def tensorrt(monkeypatch, folder: Path, machine, version: str):
    module = fake_tensorrt.make(version, machine)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    gpu(monkeypatch)
    bindings(monkeypatch, machine)
    return module
