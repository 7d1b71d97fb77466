"""The program ``kubectl-llmbatch``; also ``python -m llmbatch.plugin``, for where it is not on PATH."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def main() -> None:
    """The console script ``kubectl-llmbatch``, which kubectl finds on PATH.

    It imports nothing of the commands before it can be ended in order.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    # In this order: each then gets the number of the stream that the shell closed, and no other file does.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    from llmbatch.plugin import cli

    cli.main()


def _interrupted(number: int, frame: FrameType | None) -> None:
    # No KeyboardInterrupt: of that typer makes a failure.
    sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
