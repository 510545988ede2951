"""The command `optkit`, also as `python -m optkit`: Ctrl-C ends it in one line from the first import on."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Import the command line and run it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # ignored under nohup
        signal.signal(signal.SIGINT, _interrupt)
    from optkit.cli import main as run

    run()


def _interrupt(*_: object) -> None:
    """Nothing has begun that would have to be cleaned up."""
    os.write(2, b"error: Interrupted.\n")
    os._exit(130)


if __name__ == "__main__":
    main()
