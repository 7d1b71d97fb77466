"""Writes what is made of the metrics: ``python -m llmbatch.observability.monitoring REPOSITORY``."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from llmbatch.observability.metrics import Metrics
from llmbatch.observability.monitoring.alerts import rules
from llmbatch.observability.monitoring.dashboard import document

PAGE = "docs/metrics.md"
FILES = "charts/llmbatch-operator/files"
GENERATED = re.compile(r"(<!-- begin: made of the code by make generate -->\n).*?(<!-- end -->)", re.DOTALL)


def files(repository: Path) -> Mapping[Path, str]:
    """What each file must hold. Raises ValueError where the page has lost its marks."""
    metrics = Metrics()
    page = repository / PAGE
    text = page.read_text(encoding="utf-8")
    if len(GENERATED.findall(text)) != 1:
        raise ValueError(f"{PAGE} lacks the marks between which the table of metrics is written")
    return {
        page: GENERATED.sub(lambda found: f"{found[1]}{reference(metrics)}{found[2]}", text),
        repository / FILES / "rules.yaml": rules(metrics),
        repository / FILES / "dashboard.json": document(metrics),
    }


def reference(metrics: Metrics) -> str:
    """A table of all metrics in Markdown, in the order in which they are made."""
    lines = ["", "| metric | type | labels | |", "|---|---|---|---|"]
    for family in metrics.families.values():
        labels = ", ".join(family.labels)
        lines.append(f"| `{family.name}` | {family.type} | {labels}{' ' * bool(labels)}| {family.help} |")
    return "\n".join([*lines, "", ""])


def main(arguments: list[str]) -> int:
    """Entry point; answers the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m llmbatch.observability.monitoring REPOSITORY\n")
        return 2
    for path, text in files(Path(arguments[0])).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
