"""`python -m llmbatch.emulator`."""

from __future__ import annotations

import typer

from llmbatch.emulator.cli import emulator

if __name__ == "__main__":
    typer.run(emulator)
