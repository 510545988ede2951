"""`optkit serve`: an HTTP server for one or several artifacts."""

from __future__ import annotations

from typing import Annotated

import typer

from optkit.cli.parameters import call, number
from optkit.core.quantities import BYTES, COUNT, FEW, MILLISECONDS, PAUSE, PORT, SECONDS, TOKENS


def serve(
    models: Annotated[list[str], typer.Argument(metavar="[NAME=]PATH...", help="Artifacts; a folder's own name is the model's unless another is given.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines too.")] = "127.0.0.1",
    port: Annotated[int, number(PORT, help="Port; 0 takes any free one.")] = 8000,
    workers: Annotated[int, number(FEW, help="Processes, each with the models loaded.")] = 1,
    streams: Annotated[int, number(FEW, help="Batches answered at once in a process.")] = 1,
    threads: Annotated[int | None, number(FEW, help="Threads of each batch; default: the cores, shared out.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Run on this runtime instead of the stored one.")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="A setting of the runtime, such as spinning=false. May be given several times.")] = None,
    max_batch: Annotated[int, number(COUNT, help="Inputs per batch; 1 turns batching off.")] = 32,
    max_tokens: Annotated[int, number(TOKENS, help="Tokens per batch, padding counted.")] = 512,
    max_delay_ms: Annotated[float, number(MILLISECONDS, help="How long a batch waits to fill, when there is company.")] = 2.0,
    queue: Annotated[int, number(COUNT, help="Inputs that may wait; more get 429.")] = 256,
    timeout: Annotated[float, number(SECONDS, help="Seconds until a request is answered with 504.")] = 10.0,
    max_body: Annotated[int, number(BYTES, help="Bytes of a request's body.")] = 2**20,
    max_text: Annotated[int, number(COUNT, help="Characters of a text.")] = 100_000,
    max_inputs: Annotated[int, number(COUNT, help="Inputs of one request.")] = 128,
    max_new_tokens: Annotated[int, number(TOKENS, help="Tokens that a language model writes for a prompt, at most.")] = 256,
    api_key_file: Annotated[str | None, typer.Option(help="A file with the API key; default: $OPTKIT_API_KEY, else no key.")] = None,
    tls_cert: Annotated[str | None, typer.Option(help="TLS certificate (PEM).")] = None,
    tls_key: Annotated[str | None, typer.Option(help="Its private key (PEM).")] = None,
    watch: Annotated[float, number(PAUSE, help="Seconds between looks for a new version in the folders; 0: never.")] = 2.0,
    drain: Annotated[float, number(PAUSE, help="Seconds after SIGTERM in which connections still get their last answer.")] = 1.0,
    shadow: Annotated[str | None, typer.Option(help="Another artifact that answers too, in the background; agreement and time become metrics.")] = None,
    allowed_host: Annotated[list[str] | None, typer.Option(metavar="HOST", help="A host to answer under: NAME, *.NAME, [IPV6] or *, with :PORT if only that. Default: loopback names on loopback, else any. May be given several times.")] = None,
    max_connections: Annotated[int, number(COUNT, help="Connections of a process; the longest idle one makes room for another.")] = 10_000,
    connection_requests: Annotated[int | None, number(COUNT, help="Requests until a connection ends; default: 10000, and 100 with several workers.")] = None,
    verify_key: Annotated[str | None, typer.Option(help="A public key (PEM) whose owner has to have signed every model and every new version; see optkit sign.")] = None,
    ranges: Annotated[str | None, typer.Option(help="embeddings in int8: a .npy file, (2, dimensions), of least and greatest values.")] = None,
    log_requests: Annotated[bool, typer.Option("--log-requests", help="Log every request (never its text).")] = False,
) -> None:  # fmt: skip
    """Answer over HTTP: KServe's protocols v1 and v2, and OpenAI's embeddings and completions."""
    flags = dict(locals())
    import optkit

    call(optkit.serve, flags)


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)
