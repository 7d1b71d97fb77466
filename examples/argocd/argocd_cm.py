"""Prints argocd-cm.yaml: the health checks of resource_customizations, as a patch of Argo CD's own ConfigMap."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import indent

CHECKS = Path(__file__).resolve().parent / "resource_customizations"
HEAD = """\
# Written by `make generate` from resource_customizations/. Put it into Argo CD's own ConfigMap:
#   kubectl patch configmap argocd-cm --namespace argocd --patch-file argocd-cm.yaml
data:
"""


def patch() -> str:
    """A patch in YAML, a key for each check."""
    entries = [
        f"  resource.customizations.health.{script.parent.parent.name}_{script.parent.name}: |\n"
        f"{indent(script.read_text(encoding='utf-8'), '    ')}"
        for script in sorted(CHECKS.glob("*/*/health.lua"))
    ]
    return HEAD + "".join(entries)


if __name__ == "__main__":
    sys.stdout.write(patch())
