from __future__ import annotations

import pytest

from optkit.errors import RecipeError
from optkit.serving.http.hosts import Hosts


def code(hosts, *given, target=b"/", version="1.1"):
    refusal = hosts.refusal(target, [(b"host", host) for host in given], version)
    return refusal and refusal[0]


@pytest.mark.parametrize("host", [b"127.0.0.1", b"localhost:8000", b"[::1]:1", b"LOCALHOST.", b"127.9.9.9"])
def test_loopback_answers_to_its_own_names(host):
    assert code(Hosts("127.0.0.1"), host) is None


@pytest.mark.parametrize(
    "host", [b"evil.example", b"127.0.0.1.evil.example", b"localhost.evil", b"10.0.0.1", b"[::2]"]
)
def test_loopback_answers_to_no_other_host(host):
    assert code(Hosts("127.0.0.1"), host) == 421
    assert code(Hosts("0.0.0.0"), host) is None


@pytest.mark.parametrize(
    "host", [b"", b"a@127.0.0.1", b"127.0.0.1:x", b"127.0.0.1:99999", b"[::1", b"a b", b"127.0.0.1/"]
)
def test_what_is_no_host_is_a_broken_request_everywhere(host):
    assert code(Hosts("127.0.0.1"), host) == code(Hosts("0.0.0.0"), host) == 400


def test_there_is_one_host_header():
    for hosts in (Hosts("127.0.0.1"), Hosts("0.0.0.0")):
        assert code(hosts) == 400
        assert code(hosts, b"localhost", b"localhost") == 400
    assert code(Hosts("0.0.0.0"), version="1.0") is None
    assert code(Hosts("127.0.0.1"), version="1.0") == 400


def test_the_absolute_form_names_the_host_once_more():
    hosts = Hosts("127.0.0.1")
    assert code(hosts, b"localhost", target=b"http://localhost/v2") is None
    assert code(hosts, b"localhost", target=b"http://evil.example/v2") == 421
    assert code(hosts, b"evil.example", target=b"http://localhost/v2") == 421
    assert code(hosts, b"localhost", target=b"http://a@localhost/v2") == 400
    assert code(hosts, b"localhost", target=b"/v2?x=http://evil.example") is None


def test_hosts_that_are_allowed():
    hosts = Hosts("127.0.0.1", ["a.example", "*.b.example", "c.example:81", "[fd00::1]"])
    for host in (b"a.example", b"A.example:5", b"x.b.example", b"c.example:81", b"[FD00::1]:3", b"localhost"):
        assert code(hosts, host) is None
    for host in (b"b.example", b"xb.example", b"c.example", b"c.example:82", b"z.a.example"):
        assert code(hosts, host) == 421
    assert code(Hosts("0.0.0.0", ["a.example"]), b"evil.example") == 421
    assert code(Hosts("127.0.0.1", ["*"]), b"evil.example") is None


@pytest.mark.parametrize("text", ["", "http://a", "a/b", "*a", "a:b", "a.*", "[x"])
def test_what_is_no_host_can_not_be_allowed(text):
    with pytest.raises(RecipeError, match="--allowed-host"):
        Hosts("127.0.0.1", [text])
