"""Running a program with unpacked packages laid over /usr."""

from __future__ import annotations

from pathlib import Path

SCRIPT = 'mount -t overlay overlay -o "lowerdir=$0/usr:/usr" /usr && exec "$@"'


def over_usr(root: Path) -> list[str]:
    """The beginning of a command line whose program sees `root`'s /usr over the machine's, and nobody else does."""
    return ["unshare", "--mount", "sh", "-c", SCRIPT, str(root)]
