"""The child process, spoken to through a service that lives in this file."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from optkit.core.process import Child
from optkit.errors import DataError, MissingDependency, OutputError, WorkerError
from optkit.events import Progress

pytestmark = pytest.mark.usefixtures("real_children")


class Service:
    def add(self, a, b):
        print("libraries may print")
        return a + b

    def steps(self, count, pause=0.0):
        for i in range(count):
            time.sleep(pause)
            self.emit(Progress(f"step {i}"))
        return count

    def refuse(self):
        raise DataError("Expected x, received y.", hint="Do z.")

    def bug(self):
        return {}["missing"]

    def lack(self):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(self):
        time.sleep(60)

    def out_of_memory(self):
        raise MemoryError

    def fill_the_disk(self):
        raise OSError(28, "No space left on device")

    def spin(self):
        """Burn the CPU in a thread, as an idle thread pool does."""
        import threading

        def burn():
            while True:
                pass

        threading.Thread(target=burn, daemon=True).start()

    def cpu(self):
        return time.process_time()


def serve():
    return Service()


@pytest.fixture
def child():
    with Child("tests.core.test_process", timeout_s=20) as child:
        yield child


def test_calls_return_values_though_libraries_print(child):
    assert child.call("add", a=1, b=2) == 3


def test_events_arrive_before_the_result(child):
    events = []
    assert child.call("steps", events=events.append, count=3) == 3
    assert events == [Progress("step 0"), Progress("step 1"), Progress("step 2")]


def test_an_error_keeps_its_class_and_hint(child):
    with pytest.raises(DataError, match="Expected x") as raised:
        child.call("refuse")
    assert raised.value.hint == "Do z."
    assert child.call("add", a=1, b=1) == 2  # and the child lives on


@pytest.mark.parametrize(
    ("call", "error", "message", "hint"),
    [
        ("bug", WorkerError, "KeyError", ""),
        ("lack", MissingDependency, "'onnx'", "optkit[compress]"),
        ("out_of_memory", WorkerError, "Out of memory", ""),
        ("fill_the_disk", OutputError, "No space left", ""),
        ("die", WorkerError, "code -9", "memory"),
    ],
)
def test_what_goes_wrong_in_the_child_is_an_error_of_ours(child, call, error, message, hint):
    with pytest.raises(error, match=message) as raised:
        child.call(call)
    assert hint in (raised.value.hint or "")


def test_a_child_whose_module_lacks_a_package_names_its_extra(tmp_path, monkeypatch):
    (tmp_path / "lacking.py").write_text("raise ModuleNotFoundError('none', name='torch')")
    monkeypatch.syspath_prepend(tmp_path)
    with Child("lacking") as child:
        with pytest.raises(MissingDependency, match="'torch'"):
            child.call("add", a=1, b=2)


def test_a_child_that_reports_progress_does_not_hang():
    with Child("tests.core.test_process", timeout_s=2) as child:
        child.call("steps", count=1)  # imports are done
        assert child.call("steps", count=6, pause=0.5) == 6


def test_a_hanging_child_is_ended():
    with Child("tests.core.test_process", timeout_s=3) as child:
        with pytest.raises(WorkerError, match="did not answer 'hang'"):
            child.call("hang")
    assert not _alive(child.pid)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
def test_a_paused_child_burns_no_cpu_however_its_threads_spin(child):
    child.call("spin")
    child.pause()
    time.sleep(0.1)
    before = _cpu_seconds(child.pid)
    time.sleep(0.5)
    assert _cpu_seconds(child.pid) - before <= 0.02
    child.resume()
    assert child.call("add", a=2, b=2) == 4


def test_closing_ends_a_paused_child():
    child = Child("tests.core.test_process")
    child.call("add", a=1, b=1)
    child.pause()
    child.close()
    assert not _alive(child.pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _cpu_seconds(pid: int) -> float:
    if not os.path.exists(f"/proc/{pid}/stat"):
        pytest.skip("needs /proc")
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
