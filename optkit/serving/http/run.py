"""`serve`: uvicorn around the application, in one process or several.

With several, they share one listening socket: whoever is free takes the next connection, a worker that
dies takes none along that it had not accepted, and uvicorn's supervisor starts another in its place.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import tempfile
from collections.abc import Callable
from importlib import util
from pathlib import Path
from types import FrameType
from typing import Any

from optkit.errors import CheckpointError, MissingDependency, OptkitError, RecipeError
from optkit.serving.http.hosts import is_loopback
from optkit.serving.http.settings import SETTINGS, ServeSettings

#: How long an idle connection is kept: longer than a load balancer does (60 s), so that it closes first.
KEEP_ALIVE_S = 75
BACKLOG = 2048
APPLICATION = "optkit.serving.http.app:from_environment"
#: A worker that is silent for so long is killed and replaced. Loading a large model is silence.
WORKER_S = 60


def serve(settings: ServeSettings) -> None:
    """Answer until SIGTERM, SIGHUP or Ctrl-C; what was accepted is answered first.

    Raises MissingDependency without the extra `serve`, and what loading the models raises.
    """
    for package in ("fastapi", "uvicorn", "httptools", "prometheus_client"):
        if util.find_spec(package) is None:
            raise MissingDependency.of(package, "serve")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its pool would compete with the model's
    from optkit.serving.http.logs import log, set_up

    set_up()
    _check(settings)
    os.environ[SETTINGS] = settings.to_json()
    if not settings.api_key and not is_loopback(settings.host):
        log("warning", "no API key is set, and other machines can reach this server", host=settings.host)
    hang_up = _end_on_hang_up()
    try:
        if settings.workers > 1:
            _supervise(_options(settings))
        else:
            _serve_alone(_options(settings))
    except SystemExit as end:
        if end.code:
            raise OptkitError(
                "The server did not start, or its workers died; the lines above say why.",
                hint="Is the port free? --port 0 takes any.",
            ) from None
    finally:
        if hang_up is not None:
            signal.signal(signal.SIGHUP, hang_up)


def _serve_alone(options: dict[str, Any]) -> None:
    """In this process. Raises SystemExit where it does not start."""
    from uvicorn import Config, Server

    server = Server(Config(APPLICATION, **options))
    terminate = signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: FrameType | None) -> None:
        """Uvicorn raises a signal again once it has shut down in order; that one ends nothing."""
        if not server.should_exit:
            signal.signal(number, terminate)
            signal.raise_signal(number)

    signal.signal(signal.SIGTERM, end)
    try:
        server.run()
    except KeyboardInterrupt:
        if not server.should_exit:
            raise
    finally:
        signal.signal(signal.SIGTERM, terminate)


def _end_on_hang_up() -> Callable[[int, FrameType | None], object] | int | None:
    """SIGHUP becomes SIGTERM, unless it is ignored (nohup); the handler there was, None where it stays."""
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return None
    return signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))


def _supervise(options: dict[str, Any]) -> None:
    """Several workers. Raises SystemExit where they do not start, or die again and again."""
    from uvicorn import Config

    from optkit.serving.http.workers import Supervisor

    config = Config(APPLICATION, **options)
    terminate = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryDirectory(prefix="optkit-metrics-") as folder:  # what all count together
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        try:
            supervisor = Supervisor(config, [config.bind_socket()])
            supervisor.run()
        finally:
            signal.signal(signal.SIGTERM, terminate)
    if supervisor.failed:
        raise SystemExit(1)


def _check_host(host: str) -> None:
    """RecipeError where no address of this name can be listened on."""
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as reason:
        raise RecipeError(
            f"Expected --host as an address or a name of this machine, received {host[:80]!r}: {reason}.",
            hint="127.0.0.1 for this machine alone, 0.0.0.0 for others too.",
        ) from reason


def _check(settings: ServeSettings) -> None:
    """What can be wrong is said here, before any process starts."""
    from optkit.serving.http.model_slot import check_options, open_predictor
    from optkit.serving.http.shadow import open_shadow
    from optkit.tasks.vectors import read_ranges

    _ = settings.api_key
    _check_host(settings.host)
    if settings.tls_cert and settings.tls_key:
        _check_tls(settings.tls_cert, settings.tls_key)
    check_options(settings)
    if settings.ranges is not None:
        read_ranges(settings.ranges)
    embeds = False
    for path in settings.models.values():
        with open_predictor(Path(path), settings) as predictor:
            task = predictor.task.name
            embeds |= predictor.task.embeds
    if settings.ranges is not None and not embeds:
        raise RecipeError("Expected a model for embeddings, whose vectors have the ranges; received none.")
    if settings.shadow:  # beside one model
        open_shadow(settings, task).close()


def _check_tls(cert: str, key: str) -> None:
    for file in (cert, key):
        if not os.path.isfile(file):
            raise CheckpointError(f"Expected a TLS file, received {file!r}, which does not exist.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except OSError as reason:
        raise RecipeError(
            f"Expected a TLS certificate and its own key, received {cert!r} and {key!r}: {reason}.",
            hint="Both are PEM files, the key without a passphrase.",
        ) from reason


def _options(settings: ServeSettings) -> dict[str, Any]:
    return {
        "factory": True,
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "http": "optkit.serving.http.connection:Connection",
        "loop": "auto",
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "backlog": BACKLOG,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_worker_healthcheck": WORKER_S,
        "timeout_graceful_shutdown": int(settings.timeout_s) + 5,
        "ssl_certfile": settings.tls_cert,
        "ssl_keyfile": settings.tls_key,
    }
