"""The page in a real browser, and what it refers to."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.serving.artifacts import artifact
from tests.serving.http.processes import running

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--virtual-time-budget=8000",
)


def test_every_file_is_our_own_and_nothing_else_may_load(client):
    for path in ("/", "/docs"):
        page = client.get(path)
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page.text)
        for name in re.findall(r"(?:src|href)=\"([a-z./]+)\"", page.text):
            assert client.get(f"/{name.removeprefix('./')}").status_code == 200
    assert "http" not in client.get("/page.js").text.replace("https", "http").split("fetch")[0]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
def test_a_text_is_answered_in_a_browser_and_the_api_is_described(tmp_path):
    with running(str(artifact(tmp_path / "model"))) as server:
        expected = server.ask("a fine film")[1]["predictions"][0]
        home = f"http://127.0.0.1:{server.port}"
        tried = shown(f"{home}/#a%20fine%20film", tmp_path / "one")
        assert f'"label": "{expected["label"]}"' in tried
        assert f"<td>{max(expected['scores'].values()):.4f}</td>" in tried
        assert re.search(r"[\d.]+ ms, version [0-9a-f]{12}", tried)
        described = shown(f"{home}/docs", tmp_path / "two")
        assert "POST /v2/models/model/infer" in described
        assert 'class="error"' not in tried + described


def shown(url: str, profile) -> str:
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
