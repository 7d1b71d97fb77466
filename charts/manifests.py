"""Writes the chart, rendered with its own values, and its namespace into one file for ``kubectl apply --server-side``.

``python charts/manifests.py FILE``, with ``tests`` on the path: helm is built from Go modules where it is not on PATH.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from toolchain.find import program

CHART = Path(__file__).parent / "llmbatch-operator"
RELEASE = "llmbatch-operator"
NAMESPACE = "llmbatch-system"
HEADER = f"""\
# Rendered by helm from the chart, with its own values (make manifests).
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""


def rendered(helm: Path) -> str:
    """The namespace, and all that the chart makes in it. Raises CalledProcessError."""
    command = [str(helm), "template", RELEASE, str(CHART), "--namespace", NAMESPACE]
    return HEADER + subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def main(arguments: Sequence[str]) -> int:
    """Entry point; answers the exit status."""
    (path,) = map(Path, arguments)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rendered(program("helm")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
