"""Renders chat templates, as a process of its own: its memory is bounded here, its time by who asks.

The environment is that of transformers (`transformers.utils.chat_template_utils`): Jinja2's immutable
sandbox, without blanks around blocks, with the functions that templates are written for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from optkit.errors import DataError
from optkit.events import Events

#: The most bytes that a template may take, and the most characters of a prompt.
MEMORY, LONGEST = 2**30, 4_000_000


class Service:
    emit: Events

    def render(self, source: str, tokens: dict[str, str], messages: list[dict[str, Any]]) -> str:
        """The prompt. Raises DataError where the template refuses the messages, or fails on them."""
        pieces, size = [], 0
        try:
            template = _compiled(source)
            given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": True}
            for piece in template.generate(**tokens, **given):
                pieces.append(piece)
                size += len(piece)
                if size > LONGEST:
                    raise DataError(f"The chat template wrote over {LONGEST:,} characters.")
        except _Refused as reason:
            raise DataError(f"The model's chat template refuses these messages: {reason}") from reason
        except DataError:
            raise
        except (Exception, MemoryError) as reason:
            raise DataError(
                f"The model's chat template fails on these messages: {type(reason).__name__}: {reason}"[:500],
                hint="Write the prompt yourself: /v1/completions, or predict with a text.",
            ) from reason
        return "".join(pieces)


def serve() -> Service:
    with suppress(ImportError, OSError, ValueError):  # there is no such limit on Windows and macOS
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return Service()


class _Refused(jinja2.TemplateError):
    """What a template says about the messages."""


class _Generation(Extension):
    """`{% generation %}` marks what a model is trained on; a prompt is the same without."""

    tags = {"generation"}  # noqa: RUF012, as Jinja2 declares it

    def parse(self, parser: jinja2.parser.Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """Jinja2's, in which no name begins with an underscore: those lead out of the sandbox."""

    def __init__(*args: object, **kwargs: object) -> None:
        for name in dict(*args[1:], **kwargs):
            _check_name(name)
        Namespace.__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: object) -> None:
        _check_name(name)
        super().__setitem__(name, value)


class _Dict:
    """`dict(...)` and `dict.fromkeys(...)`, and nothing else of the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[object], value: object = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


def _check_name(name: object) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace has no {name!r}")


@lru_cache(maxsize=8)
def _compiled(source: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    functions: dict[str, Callable[..., object]] = {
        "raise_exception": _refuse,
        "strftime_now": lambda format: datetime.now().strftime(format),
        "namespace": _Namespace,
        "dict": _Dict(),
    }
    environment.globals.update(functions)
    return environment.from_string(source)


def _refuse(message: str) -> None:
    raise _Refused(message)


def _to_json(value: object, ensure_ascii: bool = False, **how: Any) -> str:
    """Without the escapes of HTML that Jinja2's own filter makes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **how)
