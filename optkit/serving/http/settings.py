"""`ServeSettings`: everything that `optkit serve` can be told, checked; travels to workers as JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from optkit.benchmarking.environment import usable, usable_cores
from optkit.core.quantities import BYTES, COUNT, FEW, MILLISECONDS, PAUSE, PORT, SECONDS, TOKENS, check_all
from optkit.core.reading import read_text
from optkit.errors import RecipeError
from optkit.serving.http.hosts import Hosts

#: The environment variables that hold the settings of a worker process, and the API key.
SETTINGS, API_KEY = "OPTKIT_SERVE", "OPTKIT_API_KEY"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_QUANTITIES = {
    "port": PORT,
    **dict.fromkeys(("workers", "streams", "threads"), FEW),
    **dict.fromkeys(("max_batch", "queue", "max_text", "max_inputs"), COUNT),
    **dict.fromkeys(("max_connections", "connection_requests"), COUNT),
    **dict.fromkeys(("max_tokens", "max_new_tokens"), TOKENS),
    **dict.fromkeys(("watch_s", "drain_s"), PAUSE),
    "max_delay_ms": MILLISECONDS,
    "timeout_s": SECONDS,
    "max_body": BYTES,
}


@dataclass(frozen=True)
class ServeSettings:
    """`models` is name → folder. Limits hold per process; times are in seconds unless named otherwise.

    `streams` batches run at once; each has `threads` threads (None: the cores shared out evenly).
    A batch has at most `max_batch` inputs and `max_tokens` tokens, and waits at most `max_delay_ms` to
    fill while others are being answered. `queue` inputs may wait for each model; more get 429. `timeout_s`
    bounds a request. `max_body` is in bytes, `max_text` in characters, `max_inputs` counts a request's
    inputs, `max_new_tokens` what a language model may be asked to write behind each of them.
    `watch_s` is how often folders are looked at for a new version (0: never). On SIGTERM connections
    are still answered for `drain_s`, each for the last time. `allowed_hosts` as for `Hosts`. A process holds
    `max_connections`, and each has `connection_requests` at most. `verify_key` is the public
    key whose owner has to have signed every model, a new version too. `ranges` is the file by which vectors
    are given in int8 (`optkit.tasks.vectors.read_ranges`).
    """

    models: dict[str, str]
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    runtime: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    streams: int = 1
    threads: int | None = None
    max_batch: int = 32
    max_tokens: int = 512
    max_delay_ms: float = 2.0
    queue: int = 256
    timeout_s: float = 10.0
    max_body: int = 2**20
    max_text: int = 100_000
    max_inputs: int = 128
    max_new_tokens: int = 256
    api_key_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    watch_s: float = 2.0
    drain_s: float = 1.0
    shadow: str | None = None
    log_requests: bool = False
    allowed_hosts: list[str] = field(default_factory=list)
    max_connections: int = 10_000
    connection_requests: int | None = None
    verify_key: str | None = None
    ranges: str | None = None

    def __post_init__(self) -> None:
        check_all(self, _QUANTITIES)
        if self.max_inputs > self.queue:
            raise RecipeError(f"Expected max_inputs from 1 to queue ({self.queue}), got {self.max_inputs}.")
        Hosts(self.host, self.allowed_hosts)
        if bool(self.tls_cert) != bool(self.tls_key):
            raise RecipeError("Expected both a TLS certificate and its key, received one of them.")
        if not self.models:
            raise RecipeError("Expected at least one model, received none.")
        if self.shadow and len(self.models) != 1:
            raise RecipeError(f"A shadow takes one model beside it, received {len(self.models)}.")

    @property
    def runtime_options(self) -> dict[str, Any]:
        """What `load` is given beside the manifest's own settings."""
        share = max(1, usable_cores() // (self.streams * self.workers))
        # Left to itself, a runtime starts a thread for every core it sees, whatever the container's limit.
        threads = self.threads or (share if share < len(usable()) else None)
        return {**({"threads": threads} if threads else {}), **self.options}

    @property
    def api_key(self) -> str | None:
        """From the file, else from the environment; never from the command line, which others can read."""
        if self.api_key_file is None:
            return os.environ.get(API_KEY) or None
        key = read_text(Path(self.api_key_file), RecipeError, most=2**16).strip()
        if not key:
            raise RecipeError(f"Expected an API key in {self.api_key_file!r}; the file is empty.")
        if not key.isprintable() or not key.isascii():
            raise RecipeError(f"Expected one line of ASCII as the API key in {self.api_key_file!r}.")
        return key

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServeSettings:
        return cls(**json.loads(text))


def named(paths: Sequence[str]) -> dict[str, str]:
    """`PATH` or `NAME=PATH` each → name → folder; a folder's own name where none is given.

    >>> named(["models/small", "best=models/large"])
    {'small': 'models/small', 'best': 'models/large'}
    """
    models: dict[str, str] = {}
    for text in paths:
        name, equals, path = text.partition("=")
        if not equals or "/" in name:
            name, path = Path(text).absolute().name, text
        if not _NAME.fullmatch(name):
            raise RecipeError(
                f"Expected a name of letters, digits, '.', '_' and '-', received {name!r}.",
                hint="Write NAME=PATH.",
            )
        if name in models:
            raise RecipeError(f"Two models are called {name!r}.", hint="Write NAME=PATH for one of them.")
        models[name] = path
    return models
