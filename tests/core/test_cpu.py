from __future__ import annotations

import pytest

from optkit.core import cpu

ZEN4 = "model name\t: AMD EPYC 9454\nflags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16\n"


@pytest.mark.parametrize(
    ("cpuinfo", "vnni"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", True),
        ("flags\t\t: fpu sse2 avx avx2\n", False),
        ("Features\t: fp asimd asimddp i8mm\n", True),
        ("Features\t: fp asimd\n", False),
        ("", True),  # it does not tell, as on macOS
    ],
)
def test_vnni_is_read_from_the_processors_flags(monkeypatch, cpuinfo, vnni):
    monkeypatch.setattr("optkit.core.cpu.read", lambda file: cpuinfo)
    assert cpu.has_vnni() is vnni


def test_name_and_flags_are_those_of_the_first_processor(monkeypatch):
    monkeypatch.setattr("optkit.core.cpu.read", lambda file: ZEN4 + "model name: another\nflags: none\n")
    assert cpu.model() == "AMD EPYC 9454"
    assert "avx512_bf16" in cpu.flags()
    assert "none" not in cpu.flags()
    assert cpu.has_bf16()
