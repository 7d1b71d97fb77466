"""The chart as helm renders it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from toolchain.find import program

CHART = Path(__file__).resolve().parents[2] / "charts" / "llmbatch-operator"
VALUE_SETS = Path(__file__).parent / "chart_values"
"""Ways to install the chart; each file says whose."""
RELEASE = "llmbatch-operator"
NAMESPACE = "llmbatch-system"

Object = dict[str, Any]


class Refused(Exception):
    """Helm did not take the values; the text is what it said."""


class Rendered:
    """What a release consists of; `text` is the manifests as helm wrote them. The objects are shared: change none."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._objects = [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]

    def __iter__(self) -> Iterator[Object]:
        return iter(self._objects)

    def all(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return [item for item in self._objects if item["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Object:
        """The only object of a kind, or that of a name."""
        (found,) = (item for item in self.all(kind) if name in (None, item["metadata"]["name"]))
        return found

    @property
    def pod(self) -> Object:
        """The template of the operator's pods."""
        return self.one("Deployment")["spec"]["template"]

    @property
    def container(self) -> Object:
        """The operator's container."""
        (container,) = self.pod["spec"]["containers"]
        return container


def helm(*arguments: str, stdin: str | None = None) -> str:
    """Run helm; answers what it printed. Raises Refused with its error."""
    command = [str(program("helm")), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def value_set(path: Path) -> Object:
    """The values of one file of VALUE_SETS."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def render(
    values: Mapping[str, Any] | None = None, *, release: str = RELEASE, namespace: str = NAMESPACE, chart: Path = CHART
) -> Rendered:
    """The chart with these values above its own, each set of values rendered once. Raises Refused."""
    return _rendered(json.dumps(values or {}, sort_keys=True), release, namespace, chart)


@cache
def _rendered(values: str, release: str, namespace: str, chart: Path) -> Rendered:
    return Rendered(helm("template", release, str(chart), f"--namespace={namespace}", "--values=-", stdin=values))
