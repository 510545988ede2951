from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

PATH = "/v1/models/m:predict"


def test_every_stage_is_measured(fake):
    with fake({}) as client:
        for body in ({"instances": ["a", "b"]}, {"instances": ["c"]}):
            assert client.post(PATH, json=body).status_code == 200
        client.post(PATH, json={"instances": 1})
        text = client.get("/metrics").text
    found = dict(re.findall(r"^(optkit_\w+(?:{[^}]*})?) (\S+)$", text, re.M))
    assert found['optkit_request_seconds_count{model="m"}'] == "2.0"
    assert found['optkit_queue_seconds_count{model="m"}'] == "2.0"
    assert found['optkit_batch_inputs_sum{model="m"}'] == "3.0"
    assert found['optkit_responses_total{code="200"}'] == "2.0"
    assert found['optkit_responses_total{code="422"}'] == "1.0"
    assert found['optkit_queue_inputs{model="m"}'] == "0.0"


def test_failures_are_counted_by_reason(fake):
    with fake({"delay_ms": 300}) as client:
        body = {"instances": ["a"]}
        assert client.post(PATH, json=body, headers={"x-timeout-ms": "20"}).status_code == 504
        assert 'optkit_failures_total{model="m",reason="late"} 1.0' in client.get("/metrics").text


def test_nothing_waits_once_all_that_waited_is_late(fake):
    with fake({"delay_ms": 300}, max_batch=1) as client, ThreadPoolExecutor(4) as threads:
        late = {"x-timeout-ms": "100"}
        ask = lambda _: client.post(PATH, json={"instances": ["a"]}, headers=late).status_code  # noqa: E731
        assert list(threads.map(ask, range(4))) == [504] * 4
        deadline = time.monotonic() + 10
        while 'optkit_queue_inputs{model="m"} 0.0' not in client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
