"""What kstatus makes of objects, in the version that Flux uses, by a program that is built from its Go module."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from support.cluster import Object
from toolchain.find import program


@dataclass(frozen=True)
class Status:
    """InProgress, Current, Failed or Terminating, and why."""

    status: str
    message: str


def statuses(objects: Iterable[Object]) -> list[Status]:
    """The status of each object, in their order."""
    lines = "".join(f"{json.dumps(item)}\n" for item in objects)
    done = subprocess.run([program("kstatus")], input=lines, capture_output=True, text=True, timeout=60, check=True)
    return [Status(**json.loads(line)) for line in done.stdout.splitlines()]
