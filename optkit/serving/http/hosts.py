"""`Hosts`: the names under which a server may be asked.

A page of a stranger can have its own name point at 127.0.0.1 (DNS rebinding), and ask a server on loopback
as if it were its own. The name is then in the Host header, and is none of ours.

Source: RFC 9110, section 7.2, and RFC 9112, section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address

from optkit.errors import RecipeError

_AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
_ALLOWED = re.compile(r"(\*|(?:\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
Refusal = tuple[int, str]
_BROKEN: Refusal = (400, "Expected one Host header with a host and at most a port.")
_FOREIGN: Refusal = (421, "This server does not answer under that host; --allowed-host names more.")


class Hosts:
    """`allowed` are hosts, each with a port if only that is meant: a name, `*.name` for all below, `[IPv6]`
    or `*` for any. A server at a loopback address answers to loopback addresses and `localhost` too; one at
    another address answers to any host where `allowed` is empty. Raises RecipeError for what is no host.
    """

    def __init__(self, bound: str, allowed: Sequence[str] = ()) -> None:
        self._rules: list[tuple[str, str | None]] = []
        for text in allowed:
            match = _ALLOWED.fullmatch(text)
            if not match:
                raise RecipeError(
                    f"Expected --allowed-host NAME, *.NAME, [IPV6] or *, with :PORT or not, got {text!r}.",
                    hint="No scheme and no path: example.com, not https://example.com/.",
                )
            self._rules.append((match[1].lower().strip("[]"), match[2]))
        self._loopback = is_loopback(bound)
        self._any = ("*", None) in self._rules or not (self._rules or self._loopback)

    def refusal(self, target: bytes, headers: Sequence[tuple[bytes, bytes]], version: str) -> Refusal | None:
        """Why a request is not answered, as status and words; None where it is.

        `target` is what its first line asks for. The names of `headers` are in lower case.
        """
        given = [value for name, value in headers if name == b"host"]
        if not given and version == "1.0" and self._any:
            return None
        if len(given) != 1:
            return _BROKEN
        authorities = [given[0].strip()]
        _, separator, rest = target.partition(b"://")
        if separator and not target.startswith(b"/"):  # the absolute form names the host once more
            authorities.append(re.split(rb"[/?#]", rest, maxsplit=1)[0])
        for authority in authorities:
            match = _AUTHORITY.fullmatch(authority)
            if not match or int(match[3] or 0) > 65535:
                return _BROKEN
            host = (match[1] or match[2]).decode().lower().removesuffix(".")
            if not self._answers_to(host, match[3].decode() if match[3] else None):
                return _FOREIGN
        return None

    def _answers_to(self, host: str, port: str | None) -> bool:
        if self._any or (self._loopback and is_loopback(host)):
            return True
        return any(_fits(name, host) and needed in (None, port) for name, needed in self._rules)


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback address, or the name of one."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _fits(rule: str, host: str) -> bool:
    return rule == "*" or rule == host or (rule.startswith("*.") and host.endswith(rule[1:]))
