"""`serve`: the public verb, which turns what a caller asks for into the settings of the HTTP server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optkit.core.reading import json_value
from optkit.errors import RecipeError
from optkit.serving.http import run
from optkit.serving.http.settings import ServeSettings, named


def serve(
    models: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    streams: int = 1,
    threads: int | None = None,
    runtime: str | None = None,
    option: Sequence[str] | Mapping[str, object] | None = None,
    max_batch: int = 32,
    max_tokens: int = 512,
    max_delay_ms: float = 2.0,
    queue: int = 256,
    timeout: float = 10.0,
    max_body: int = 2**20,
    max_text: int = 100_000,
    max_inputs: int = 128,
    max_new_tokens: int = 256,
    api_key_file: str | Path | None = None,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    watch: float = 2.0,
    drain: float = 1.0,
    shadow: str | Path | None = None,
    allowed_host: Sequence[str] | None = None,
    max_connections: int = 10_000,
    connection_requests: int | None = None,
    verify_key: str | Path | None = None,
    ranges: str | Path | None = None,
    log_requests: bool = False,
) -> None:
    """Answer over HTTP: KServe's protocols v1 and v2, and OpenAI's embeddings and completions.

    Ends on SIGTERM, SIGHUP or Ctrl-C, once what was accepted is answered. Signals are heard by the main
    thread only. To embed models in an application of your own take `optkit.load`.

    Parameters:
        models: folders of artifacts, `PATH` or `NAME=PATH` each; a folder's own name where none is given.
        host: address to listen on; 0.0.0.0 for other machines too.
        port: 0 takes any free one.
        workers: processes, each with the models loaded.
        streams: batches answered at once in a process.
        threads: threads of each batch. None: the cores, shared out.
        runtime: run on this runtime instead of the stored one.
        option: settings of the runtime, `KEY=VALUE` each, or a mapping.
        max_batch: inputs per batch; 1 turns batching off.
        max_tokens: tokens per batch, padding counted.
        max_delay_ms: milliseconds that a batch waits to fill, when there is company.
        queue: inputs that may wait for each model; more get 429.
        timeout: seconds until a request is answered with 504.
        max_body: bytes of a request's body.
        max_text: characters of a text.
        max_inputs: inputs of one request.
        max_new_tokens: tokens that a language model writes for a prompt, at most.
        api_key_file: a file with the API key. None: $OPTKIT_API_KEY, else no key.
        tls_cert: TLS certificate (PEM).
        tls_key: its private key (PEM).
        watch: seconds between looks for a new version in the folders; 0: never.
        drain: seconds after SIGTERM in which connections still get their last answer.
        shadow: another artifact that answers too, in the background; agreement and time become metrics.
        allowed_host: hosts to answer under: NAME, *.NAME, [IPV6] or *, with :PORT if only that. None:
            loopback names on loopback, else any.
        max_connections: connections of a process; the longest idle one makes room for another.
        connection_requests: requests until a connection ends. None: 10000, and 100 with several workers.
        verify_key: a public key (PEM) whose owner has to have signed every model and every new version.
        ranges: for vectors in int8 and uint8: a file of `numpy.save` with the least and the greatest value of
            each dimension.
        log_requests: log every request (never its text).

    Raises MissingDependency without the extra `serve`, RecipeError for settings that do not fit, and what
    loading the models raises.

    >>> optkit.serve(["models/sst2-int8"], port=0)  # doctest: +SKIP
    """
    run.serve(
        ServeSettings(
            models=named(models),
            host=host,
            port=port,
            workers=workers,
            runtime=runtime,
            options=_options(option or ()),
            streams=streams,
            threads=threads,
            max_batch=max_batch,
            max_tokens=max_tokens,
            max_delay_ms=max_delay_ms,
            queue=queue,
            timeout_s=timeout,
            max_body=max_body,
            max_text=max_text,
            max_inputs=max_inputs,
            max_new_tokens=max_new_tokens,
            api_key_file=_text(api_key_file),
            tls_cert=_text(tls_cert),
            tls_key=_text(tls_key),
            watch_s=watch,
            drain_s=drain,
            shadow=_text(shadow),
            log_requests=log_requests,
            allowed_hosts=list(allowed_host or ()),
            max_connections=max_connections,
            connection_requests=connection_requests,
            verify_key=_text(verify_key),
            ranges=_text(ranges),
        )
    )


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)


def _options(pairs: Sequence[str] | Mapping[str, object]) -> dict[str, Any]:
    """KEY=VALUE each; a value is JSON (false, 2) where it can be, else text."""
    if isinstance(pairs, Mapping):
        return dict(pairs)
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise RecipeError(f"Expected --option KEY=VALUE, received {pair!r}.")
        try:
            options[key] = json_value(value)
        except ValueError:
            options[key] = value
    return options
