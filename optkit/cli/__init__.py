"""The command line: each verb is one file that turns flags into the same Python call."""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from contextlib import suppress

import typer

from optkit.cli import (
    bench,
    build,
    compress,
    demo,
    distill,
    finetune,
    gate,
    info,
    package,
    passes,
    predict,
    preprocess,
    recipe,
    report,
    search,
    serve,
    sign,
    tune,
)
from optkit.cli.parameters import Verb
from optkit.core.files import plain
from optkit.errors import Interrupted, MissingDependency, OptkitError, OutputError, RecipeError

#: Characters of an error.
LONGEST = 1500
app = typer.Typer(
    name="optkit",
    help="Makes a fine-tuned transformer checkpoint cheap to serve, and proves what it cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich help costs 0.1 s of the 0.3 s that --help may take
    add_completion=False,
    epilog="Exit codes: 0 done; 2 wrong usage or recipe; 3 no candidate passed the gate; 4 checkpoint; "
    "5 data; 6 output; 7 missing extra; 8 a pass cannot be trusted; 9 a worker died; 130, 143 interrupted.",
)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Show the version and exit.")) -> None:
    if version:
        from optkit.core.version import __version__

        typer.echo(__version__)
        raise typer.Exit


VERBS = (
    compress,
    search,
    build,
    bench,
    demo,
    preprocess,
    finetune,
    distill,
    tune,
    predict,
    serve,
    gate,
    report,
    recipe,
    passes,
    package,
    sign,
    info,
)
for verb in VERBS:
    verb.register(app)
for group in (app, *(x.typer_instance for x in app.registered_groups)):
    for command in group.registered_commands if group else ():
        command.cls = Verb


def main() -> None:
    """The entry point: every error ends in one line on stderr and its own exit code."""
    _ended_by.clear()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGINT, _interrupt)
    if not sys.warnoptions:  # other libraries' notes to programmers
        warnings.filterwarnings("ignore")
    interrupted = Interrupted()
    try:
        _check_words(sys.argv[1:])
        # Outside of its standalone mode Typer returns the exit code, and 130 for Ctrl-C.
        code = app(standalone_mode=False) or 0
        if code == interrupted.exit_code:
            fail(interrupted)
        sys.stdout.flush()
    except (OptkitError, Interrupted) as error:
        code = fail(_ended_by.get("signal", error))
    except KeyboardInterrupt:
        code = fail(interrupted)
    except OSError as error:
        code = _unwritten(error)
    except SystemExit:  # so Typer ends where nobody reads on
        code = _unwritten(BrokenPipeError(errno.EPIPE, "nobody reads it any more"))
    except Exception as error:
        code = fail(_ended_by["signal"]) if _ended_by else _other(error)
    sys.exit(code)


def _check_words(words: list[str]) -> None:
    """Raise RecipeError for a word that is no text: reports and manifests note names, and hold UTF-8."""
    for word in words:
        if any(character == "\0" or 0xD800 <= ord(character) < 0xE000 for character in word):
            raise RecipeError(
                f"Expected UTF-8 without NUL on the command line, received {word[:80]!r}.",
                hint="Rename the file, or give a link to it of another name.",
            )


def fail(error: OptkitError | Interrupted) -> int:
    """Print `error` and its hint on stderr; gives its exit code."""
    with suppress(OSError):  # the exit code says it where standard error cannot
        print(f"error: {_short(plain(error))}", file=sys.stderr)
        if error.hint:
            print(f"hint: {_short(plain(error.hint))}", file=sys.stderr)
    return error.exit_code


def _short(text: str) -> str:
    """`text`, whose middle goes where it is longer than anybody reads: what was received stands in it."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"


def _unwritten(error: OSError) -> int:
    """Standard output has no reader any more, or its file no room; any other refusal of the system is a bug
    of ours, since what writes files names them."""
    if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return _other(error)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in its buffer
    return fail(OutputError(f"Could not write all of the output: {error.strerror}."))


def _other(error: Exception) -> int:
    """Typer's own errors become ours, an absent package names its extra; else it is a bug of ours."""
    if absent := MissingDependency.behind(error):
        return fail(absent)
    if type(error).__name__ == "NoArgsIsHelpError":
        with suppress(OSError):
            error.show()  # type: ignore[attr-defined]
        return 2
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help says what it takes." if context else None
        return fail(RecipeError(error.format_message(), hint))
    if type(error).__name__ in ("Exit", "Abort"):
        return getattr(error, "exit_code", 130)
    import traceback

    traceback.print_exception(error)
    print("error: this is a bug in optkit; the lines above say where.", file=sys.stderr)
    return 1


#: "signal" → what ended the command: libraries that call back into Python turn an exception into an error of theirs.
_ended_by: dict[str, Interrupted] = {}


def _terminate(*_: object) -> None:
    """SIGTERM becomes an exception, so that children end and temporary folders go."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the clean-up short
    _ended_by["signal"] = Interrupted("Ended by SIGTERM.", exit_code=143)
    raise _ended_by["signal"]


def _interrupt(*_: object) -> None:
    """Ctrl-C: KeyboardInterrupt, as Python raises it, and noted."""
    _ended_by["signal"] = Interrupted()
    raise KeyboardInterrupt
