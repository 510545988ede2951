"""`optkit serve`: an HTTP server for one or several artifacts."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from optkit.errors import RecipeError


def serve(
    models: Annotated[list[str], typer.Argument(metavar="[NAME=]PATH...", help="Artifacts; a folder's own name is the model's unless another is given.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes any free one.")] = 8000,
    workers: Annotated[int, typer.Option(help="Processes, each with the models loaded.", min=1)] = 1,
    streams: Annotated[int, typer.Option(help="Batches answered at once in a process.", min=1)] = 1,
    threads: Annotated[int | None, typer.Option(help="Threads of each batch; default: the cores, shared out.", min=1)] = None,
    runtime: Annotated[str | None, typer.Option(help="Run on this runtime instead of the stored one.")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="A setting of the runtime, such as spinning=false. May be given several times.")] = None,
    max_batch: Annotated[int, typer.Option(help="Inputs per batch; 1 turns batching off.", min=1)] = 32,
    max_tokens: Annotated[int, typer.Option(help="Tokens per batch, padding counted.", min=1)] = 512,
    max_delay_ms: Annotated[float, typer.Option(help="How long a batch waits to fill, when there is company.")] = 2.0,
    queue: Annotated[int, typer.Option(help="Inputs that may wait; more get 429.", min=1)] = 256,
    timeout: Annotated[float, typer.Option(help="Seconds until a request is answered with 504.")] = 10.0,
    max_body: Annotated[int, typer.Option(help="Bytes of a request's body.", min=1)] = 2**20,
    max_text: Annotated[int, typer.Option(help="Characters of a text.", min=1)] = 100_000,
    max_inputs: Annotated[int, typer.Option(help="Inputs of one request.", min=1)] = 128,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens that a language model writes for a prompt, at most.", min=1)] = 256,
    api_key_file: Annotated[str | None, typer.Option(help="A file with the API key; default: $OPTKIT_API_KEY, else no key.")] = None,
    tls_cert: Annotated[str | None, typer.Option(help="TLS certificate (PEM).")] = None,
    tls_key: Annotated[str | None, typer.Option(help="Its private key (PEM).")] = None,
    watch: Annotated[float, typer.Option(help="Seconds between looks for a new version in the folders; 0: never.")] = 2.0,
    drain: Annotated[float, typer.Option(help="Seconds after SIGTERM in which connections still get their last answer.")] = 1.0,
    shadow: Annotated[str | None, typer.Option(help="Another artifact that answers too, in the background; agreement and time become metrics.")] = None,
    allowed_host: Annotated[list[str] | None, typer.Option(metavar="HOST", help="A host to answer under: NAME, *.NAME, [IPV6] or *, with :PORT if only that. Default: loopback names on loopback, else any. May be given several times.")] = None,
    max_connections: Annotated[int, typer.Option(help="Connections of a process; the longest idle one makes room for another.", min=1)] = 10_000,
    connection_requests: Annotated[int | None, typer.Option(help="Requests until a connection ends; default: 10000, and 100 with several workers.", min=1)] = None,
    verify_key: Annotated[str | None, typer.Option(help="A public key (PEM) whose owner has to have signed every model and every new version; see optkit sign.")] = None,
    log_requests: Annotated[bool, typer.Option("--log-requests", help="Log every request (never its text).")] = False,
) -> None:  # fmt: skip
    """Answer over HTTP: KServe's protocols v1 and v2, and OpenAI's embeddings and completions."""
    from optkit.serving.http.run import serve as run
    from optkit.serving.http.settings import ServeSettings, named

    run(
        ServeSettings(
            models=named(models),
            host=host,
            port=port,
            workers=workers,
            runtime=runtime,
            options=_options(option or []),
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
            api_key_file=api_key_file,
            tls_cert=tls_cert,
            tls_key=tls_key,
            watch_s=watch,
            drain_s=drain,
            shadow=shadow,
            log_requests=log_requests,
            allowed_hosts=allowed_host or [],
            max_connections=max_connections,
            connection_requests=connection_requests,
            verify_key=verify_key,
        )
    )


def _options(pairs: list[str]) -> dict[str, Any]:
    """KEY=VALUE each; a value is JSON (false, 2) where it can be, else text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier():
            raise RecipeError(f"Expected --option KEY=VALUE, received {pair!r}.")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)
