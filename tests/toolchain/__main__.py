"""`python -m toolchain SET…` finds or makes the programs of each set, and prints how each came and where it is."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType
from typing import NoReturn

from toolchain.find import find
from toolchain.go import BuildError
from toolchain.sets import SETS


def main() -> int:
    """Entry point; answers the exit status."""
    parser = argparse.ArgumentParser(prog="toolchain", description=__doc__)
    parser.add_argument("sets", nargs="+", choices=sorted(SETS), metavar="SET", help=", ".join(sorted(SETS)))
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a background job of a shell starts with it ignored
        signal.signal(number, _interrupt)
    try:
        for name in parser.parse_args().sets:
            for program, found in find(name).items():
                sys.stdout.write(f"{program:24}  {found.how:24}  {found.path}\n")
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
