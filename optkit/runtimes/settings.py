"""Which runtime opens an artifact, and with which settings: the caller's, over those in the manifest."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import util
from typing import TYPE_CHECKING, Any, get_type_hints

from optkit.core.artifact import Artifact
from optkit.errors import CheckpointError, MissingDependency, RecipeError, did_you_mean
from optkit.runtimes import RUNTIMES

if TYPE_CHECKING:
    from optkit.runtimes.base import Session

#: Threads, streams, tokens: as many as a manifest may ask for.
COUNTS = range(1, 4097)
#: The runtime that serves each artifact format unless another one is named.
DEFAULT_RUNTIME = {"hf": "torch", "onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}


def chosen_runtime(artifact: Artifact, runtime: str | None = None) -> str:
    """`runtime`, else the manifest's, else the format's own. Raises RecipeError for an unknown one."""
    name = runtime or stored_runtime(artifact)[0] or DEFAULT_RUNTIME[artifact.format]
    if name not in RUNTIMES:
        raise RecipeError(f"Unknown runtime {name!r}.", hint=did_you_mean(name, RUNTIMES))
    return name


def stored_runtime(artifact: Artifact) -> tuple[str | None, dict[str, Any]]:
    """The runtime in the manifest (None: it names none), and the options for it there.

    Raises CheckpointError for an unknown runtime, and for an option or a value that a manifest may not set.
    """
    stored = artifact.manifest.get("runtime")
    if not stored:
        return None, {}
    name, options = stored["name"], stored.get("options") or {}
    where = f"the manifest of {str(artifact.path)!r}"
    if name not in RUNTIMES:
        raise CheckpointError(f"Unknown runtime {name!r} in {where}.", hint=did_you_mean(name, RUNTIMES))
    allowed: dict[str, Sequence[Any] | type] = {"bucket": COUNTS, **session_class(name).stored}
    for option, value in options.items():
        if option not in allowed:
            raise CheckpointError(
                f"Expected of {where} no settings but {', '.join(sorted(allowed))}, received {option!r}.",
                hint="Other settings come from the caller alone: optkit serve --option, optkit.load(...).",
            )
        if value is not None and not _fits(value, allowed[option]):
            raise CheckpointError(
                f"Expected {option} in {where} to be {_shown(allowed[option])}, received {value!r}."
            )
    return name, {option: value for option, value in options.items() if value is not None}


def runtime_settings(runtime: str) -> frozenset[str]:
    """The names of the options that a known runtime takes."""
    return frozenset(inspect.signature(session_class(runtime)).parameters) - {"artifact"} | {"bucket"}


def session_class(runtime: str) -> type[Session]:
    """The class of the sessions of a known runtime: what its `open_session` says that it gives."""
    kind: type[Session] = get_type_hints(RUNTIMES[runtime].open_session)["return"]
    return kind


def _fits(value: Any, allowed: Sequence[Any] | type) -> bool:
    if isinstance(allowed, type):
        return isinstance(value, (int, float) if allowed is float else allowed)
    if isinstance(allowed, range):
        return type(value) is int and value in allowed
    return any(type(value) is type(one) and value == one for one in allowed)


def settings_of(
    artifact: Artifact, runtime: str | None, options: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The runtime that opens `artifact`, and with what: `options` over those in the manifest.

    Raises RecipeError for an unknown runtime or option, CheckpointError for one that a manifest may not set,
    and MissingDependency for an absent package.
    """
    stored, settings = stored_runtime(artifact)
    name = chosen_runtime(artifact, runtime)
    session = session_class(name)
    if session.package and util.find_spec(session.package) is None:
        raise MissingDependency.of(session.package, session.extra or "serve")
    if name == stored:
        options = {**session.on_this_machine(artifact, settings), **options}
    known = runtime_settings(name)
    for option in options:
        if option not in known:
            raise RecipeError(
                f"The runtime {name} has no setting {option!r}.", hint=did_you_mean(option, known)
            )
    _check_values(name, options)
    return name, options


def _check_values(runtime: str, options: dict[str, Any]) -> None:
    """Raise RecipeError for a number or a type that a setting cannot have; a runtime knows its words."""
    table = {"bucket": COUNTS, **session_class(runtime).stored}
    for option, value in options.items():
        allowed = table.get(option)
        words = isinstance(allowed, tuple) and any(isinstance(one, str) for one in allowed)
        if value is None or allowed is None or _fits(value, allowed) or (words and isinstance(value, str)):
            continue
        raise RecipeError(
            f"Expected {option} of the runtime {runtime} to be {_shown(allowed)}, received "
            f"{str(value)[:80]!r}."
        )


def _shown(values: Sequence[Any] | type) -> str:
    if isinstance(values, type):
        return f"a {values.__name__}"
    if isinstance(values, range):
        return f"{values[0]} to {values[-1]}"
    return f"one of {', '.join(map(repr, values))}"
