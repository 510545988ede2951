from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from optkit.core.artifact import state
from optkit.models.signing import sign
from optkit.serving.http.model_slot import Served
from tests.models.test_signing import write_pair
from tests.serving.artifacts import artifact

pytestmark = pytest.mark.usefixtures("fake_runtime")

PATH = "/v1/models/m:predict"
BODY = {"instances": ["a fine film"]}


@pytest.fixture
def live(tmp_path):
    return artifact(tmp_path / "live", seed=1)


def replace(live, new):
    """As `optkit compress --force` puts a folder in place of another."""
    live.rename(live.with_name("old"))
    new.rename(live)
    shutil.rmtree(live.with_name("old"))


def wait_for(client, expected, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if client.get("/v1/models/m").json()["version"] == expected:
            return
        time.sleep(0.01)
    raise AssertionError("the version did not change")


def version(path):
    from optkit.core.artifact import Artifact

    return Artifact.open(path).fingerprint()[:12]


def test_a_new_folder_takes_over_without_a_dropped_request(live, tmp_path, serving):
    new = artifact(tmp_path / "new", seed=2)
    expected, seen, stop = version(new), [], threading.Event()

    def ask():
        while not stop.is_set():
            answer = client.post(PATH, json=BODY)
            seen.append((answer.status_code, answer.json().get("model_version")))

    with serving({"m": live}, watch_s=0.02) as client:
        before = client.get("/v1/models/m").json()["version"]
        clients = [threading.Thread(target=ask) for _ in range(4)]
        for thread in clients:
            thread.start()
        replace(live, new)
        wait_for(client, expected)
        seen.append("swapped")
        after = client.post(PATH, json=BODY).json()
        stop.set()
        for thread in clients:
            thread.join()
        assert after["model_version"] == expected != before
        assert 'optkit_swaps_total{model="m",outcome="done"} 1.0' in client.get("/metrics").text
    codes = {x[0] for x in seen if x != "swapped"}
    assert codes == {200}
    assert {x[1] for x in seen if x != "swapped"} <= {before, expected}


def damaged(folder):
    (folder / "model.onnx").write_bytes(b"no graph")
    return folder


def of_another_task(folder):
    shutil.rmtree(folder)
    return artifact(folder, "embeddings")


def with_a_link_outside(folder):
    (folder / "notes.txt").symlink_to("/etc/hostname")
    return folder


@pytest.mark.parametrize("spoil", [damaged, of_another_task, with_a_link_outside])
def test_what_cannot_take_over_is_refused_and_the_old_version_goes_on(spoil, live, tmp_path, serving, capfd):
    new = spoil(artifact(tmp_path / "new", seed=2))
    with serving({"m": live}, watch_s=0.02) as client:
        before = client.get("/v1/models/m").json()["version"]
        replace(live, new)
        deadline = time.monotonic() + 20
        while 'outcome="refused"' not in client.get("/metrics").text and time.monotonic() < deadline:
            time.sleep(0.01)
        answer = client.post(PATH, json=BODY)
        assert (answer.status_code, answer.json()["model_version"]) == (200, before)
        good = artifact(tmp_path / "good", seed=3)
        expected = version(good)
        replace(live, good)
        wait_for(client, expected)
    refused = [
        x for x in map(json.loads, capfd.readouterr().err.splitlines()) if x["event"] == "swap refused"
    ]
    assert len(refused) == 1


def test_the_state_follows_files_and_not_reports(live):
    before = state(live)
    (live / "report.html").write_text("x")
    assert state(live) == before
    (live / "config.json").touch()
    assert state(live) != before
    assert state(live / "nowhere") == ()


def test_a_folder_replaced_while_models_load_is_taken(live, tmp_path, serving, monkeypatch):
    new = artifact(tmp_path / "new", seed=2)
    expected, open_version = version(new), Served.open

    def open_and_replace(self):
        found = open_version(self)
        if new.exists():
            replace(live, new)
        return found

    monkeypatch.setattr(Served, "open", open_and_replace)
    with serving({"m": live}, watch_s=0.02) as client:
        wait_for(client, expected)


def test_other_settings_of_the_runtime_are_a_new_version(live, serving):
    file = live / "optkit.json"
    manifest = json.loads(file.read_text())
    with serving({"m": live}, watch_s=0.02) as client:
        for settings in ({"name": "onnxruntime", "options": {"threads": 1}}, {"name": "fake"}):
            before = metric(client, "done")
            new = live / "new"
            new.write_text(json.dumps({**manifest, "runtime": settings}))
            new.rename(file)
            deadline = time.monotonic() + 20
            while metric(client, "done") == before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert client.post(PATH, json=BODY).status_code == 200
        touched = metric(client, "done")
        (live / "config.json").touch()  # the same files again
        time.sleep(0.3)
        assert metric(client, "done") == touched
        assert metric(client, "refused") == 0


def metric(client, outcome):
    found = re.search(
        rf'optkit_swaps_total{{model="m",outcome="{outcome}"}} (\S+)', client.get("/metrics").text
    )
    return float(found[1]) if found else 0.0


def test_a_link_to_nowhere_hides_no_change(live):
    (live / "notes").symlink_to("nowhere")
    before = state(live)
    assert before
    (live / "config.json").touch()
    assert state(live) != before
    before = state(live)
    (live / "nowhere").write_text("x")
    assert state(live) != before


def test_the_dimensions_are_those_of_the_version_that_answers(tmp_path, serving):
    path, body = "/v1/embeddings", {"model": "m", "input": "a fine film"}
    live, new = artifact(tmp_path / "live", "embeddings"), artifact(tmp_path / "new", "embeddings", width=16)
    expected = version(new)
    with serving({"m": live}, watch_s=0.02) as client:
        assert client.post(path, json={**body, "dimensions": 32}).status_code == 200
        replace(live, new)
        wait_for(client, expected)
        assert client.post(path, json={**body, "dimensions": 16}).status_code == 200
        refused = client.post(path, json={**body, "dimensions": 32})
        assert (refused.status_code, "16 dimensions" in refused.text) == (422, True)


def test_a_link_that_points_outside_is_refused_at_the_start(live, serving):
    (live / "vocab.txt").symlink_to("/etc/hostname")
    with pytest.raises(Exception, match="outside"), serving({"m": live}):
        pass


def test_a_change_that_leaves_size_and_time_alike_is_seen(live):
    (live / "1_Pooling").mkdir()
    for name in ("config.json", "1_Pooling/config.json"):
        file = live / name
        file.touch()
        before, times = state(live), file.stat()
        file.write_bytes(file.read_bytes()[::-1])
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert state(live) != before


def test_only_what_the_key_has_signed_takes_over(live, tmp_path, serving):
    keys = {}
    for name in ("ours", "theirs"):
        key = ec.generate_private_key(ec.SECP256R1())
        keys[name] = write_pair(tmp_path / name, key)
    sign(live, keys["ours"][0])
    with serving({"m": live}, watch_s=0.02, verify_key=str(keys["ours"][1])) as client:
        before = client.get("/v1/models/m").json()["version"]
        for seed, name in ((2, None), (3, "theirs")):
            new = artifact(tmp_path / "new", seed=seed)
            if name:
                sign(new, keys[name][0])
            refused = metric(client, "refused")
            replace(live, new)
            deadline = time.monotonic() + 20
            while metric(client, "refused") == refused:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert client.post(PATH, json=BODY).json()["model_version"] == before
        good = artifact(tmp_path / "good", seed=4)
        sign(good, keys["ours"][0])
        expected = version(good)
        replace(live, good)
        wait_for(client, expected)


def test_a_server_with_a_key_does_not_start_with_what_is_not_signed(live, tmp_path, serving):
    _, public = write_pair(tmp_path / "keys", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(Exception, match="without model.sig"), serving({"m": live}, verify_key=str(public)):
        pass
