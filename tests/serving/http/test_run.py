"""The server as a process: SIGTERM, workers that die, TLS, what cannot be started."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from optkit.errors import RecipeError
from optkit.serving.http.run import serve
from optkit.serving.http.settings import SETTINGS, ServeSettings
from tests.serving.artifacts import artifact
from tests.serving.http.processes import running

pytestmark = pytest.mark.usefixtures("fake_runtime")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(artifact(tmp_path_factory.mktemp("run") / "model"))


def test_what_was_accepted_is_answered_after_sigterm(model):
    slow = ("--runtime", "fake", "-o", "delay_ms=300", "--max-batch", "4", "--drain", "0.1")
    with running(model, *slow) as server, ThreadPoolExecutor(12) as threads:
        calls = [threads.submit(server.ask) for _ in range(12)]
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:  # all are accepted before the signal
            url = f"http://127.0.0.1:{server.port}/metrics"
            text = urllib.request.urlopen(url, timeout=10).read().decode()
            if 'optkit_batch_inputs_count{model="model"}' in text and "optkit_queue_inputs" in text:
                time.sleep(0.2)
                break
        server.process.send_signal(signal.SIGTERM)
        assert [call.result()[0] for call in calls] == [200] * 12
        assert server.process.wait(20) == 0
        assert "draining" in server.log()
        assert "Traceback" not in server.log()


def test_a_worker_that_is_killed_comes_back_and_the_others_answer(model):
    with running(model, "--workers", "2", "--threads", "1") as server:
        until(lambda: server.log().count('"event": "ready"') == 2)
        assert server.ask()[0] == 200
        pids = workers(server.process.pid)
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGKILL)
        lost = 0
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                assert server.ask()[0] == 200
            except OSError:  # a connection that the killed worker had taken
                lost += 1
            now = workers(server.process.pid)
            if len(now) == 2 and pids[0] not in now and server.log().count('"event": "ready"') == 3:
                break
            time.sleep(0.05)
        else:
            raise AssertionError(server.log())
        assert lost <= 1
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10)
        assert b"optkit_responses_total" in metrics.read()  # of all workers together
        server.process.terminate()
        assert server.process.wait(30) == 0


def until(true, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def workers(parent: int) -> list[int]:
    """Child processes that serve: not multiprocessing's resource tracker."""
    found = []
    for child in psutil.Process(parent).children():
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile
            if any("spawn_main" in x for x in child.cmdline()):
                found.append(child.pid)
    return found


def test_one_request_at_a_time_costs_no_thread_or_memory_that_stays(model):
    with running(model) as server:
        before = len(os.listdir(f"/proc/{server.process.pid}/task"))
        for _ in range(50):
            assert server.ask()[0] == 200
        assert len(os.listdir(f"/proc/{server.process.pid}/task")) <= before + 1


def certificate(folder, passphrase=None):
    """A certificate and its key."""
    folder.mkdir()
    cert, key = folder / "cert.pem", folder / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    hidden = ["-passout", f"pass:{passphrase}"] if passphrase else ["-nodes"]
    where = ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=localhost", "-days", "1"]
    san = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, *hidden, *where, *san], check=True, capture_output=True)
    return cert, key


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")


@needs_openssl
@pytest.mark.parametrize("workers", [1, 2])
def test_tls_files_that_do_not_fit_are_refused_before_anything_starts(workers, model, tmp_path):
    cert, _ = certificate(tmp_path / "a")
    settings = {"models": {"m": model}, "workers": workers, "tls_cert": str(cert)}
    for wrong in (certificate(tmp_path / "b")[1], cert, certificate(tmp_path / "c", "secret")[1]):
        with pytest.raises(RecipeError, match="its own key"):
            serve(ServeSettings(**settings, tls_key=str(wrong)))


def test_ranges_without_vectors_are_refused_before_anything_starts(model, tmp_path):
    np.save(tmp_path / "ranges.npy", np.array([[-1.0], [1.0]]))
    with pytest.raises(RecipeError, match="a model for embeddings"):
        serve(ServeSettings({"m": model}, ranges=str(tmp_path / "ranges.npy")))


@needs_openssl
def test_tls(model, tmp_path):
    cert, key = certificate(tmp_path / "tls")
    with running(model, "--tls-cert", str(cert), "--tls-key", str(key)) as server:
        context = ssl.create_default_context(cafile=str(cert))
        url = f"https://127.0.0.1:{server.port}/v2/health/ready"
        assert urllib.request.urlopen(url, context=context, timeout=10).read() == b'{"ready":true}'


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 4, "does not exist"),
        (["{model}", "--tls-cert", "x"], 2, "TLS"),
        (["{model}", "-o", "spin"], 2, "KEY=VALUE"),
        (["{model}", "{model}"], 2, "Two models"),
        (["{model}", "--api-key-file", "nowhere"], 2, "Cannot read"),
        (["{model}", "--shadow", "nowhere"], 4, "does not exist"),
        (["{model}", "--ranges", "nowhere"], 5, "Cannot read ranges"),
        (["{model}", "-o", "spining=false"], 2, "Did you mean 'spinning'?"),
        (["{model}", "-o", "spining=false", "--workers", "2"], 2, "Did you mean 'spinning'?"),
    ],
)
def test_what_cannot_be_started_says_why(arguments, code, message, model):
    given = [a.format(model=model) for a in arguments]
    command = [sys.executable, "-m", "optkit", "serve", "--port", "0", *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(model):
    with running(model) as server:
        command = [sys.executable, "-m", "optkit", "serve", model, "--port", str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "address already in use" in done.stderr
        assert "hint" in done.stderr


def test_one_process_needs_no_folder_to_write_to(model, monkeypatch):
    """A container's root may be read-only, with no /tmp."""

    def refuse(**_):
        raise FileNotFoundError("No usable temporary directory found")

    began = []
    monkeypatch.setattr("optkit.serving.http.run.tempfile.TemporaryDirectory", refuse)
    monkeypatch.setattr("uvicorn.Server.run", lambda server: began.append(server.config.workers))
    monkeypatch.setenv(SETTINGS, "")  # put back what serve writes there
    serve(ServeSettings({"m": model}))
    assert began == [1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_other_signals_end_the_server_as_sigterm_does(number, workers, model):
    with running(model, "--workers", workers, "--drain", "0.1") as server:
        assert server.ask()[0] == 200
        server.process.send_signal(number)
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log()


def test_workers_end_with_a_parent_that_is_killed(model):
    with running(model, "--workers", "2", "--drain", "0.1") as server:
        until(lambda: server.log().count('"event": "ready"') == 2)
        alone = [psutil.Process(pid) for pid in workers(server.process.pid)]
        counted = Path(alone[0].environ()["PROMETHEUS_MULTIPROC_DIR"])
        assert any(counted.iterdir())
        server.process.kill()
        gone, alive = psutil.wait_procs(alone, timeout=20)
        assert (len(gone), alive) == (2, [])
        assert not counted.exists()
