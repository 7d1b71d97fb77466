"""What the pages name is there, under that name: flags, chart values, commands, metrics, targets of make."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmbatch import __version__
from llmbatch.app.settings import Settings
from llmbatch.emulator.cli import emulator
from llmbatch.observability.metrics import Metrics
from llmbatch.plugin.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *DOCS.glob("*.md")])
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
TREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.MULTILINE | re.DOTALL)
OTHER_PROGRAMS = frozenset({"--dry-run", "--from-literal", "--take-ownership", "--wait"})
"""Flags of kubectl and Helm that a sentence names by themselves."""
WITH_FLAGS_OF_THEIR_OWN = frozenset(
    {"docs/argocd.md", "docs/chart.md", "docs/flux.md", "docs/image.md", "docs/kubectl.md"}
)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def paths_of(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Every value of a chart, and every map of them."""
    for name, value in values.items():
        yield f"{before}{name}"
        if isinstance(value, dict):
            yield from paths_of(value, f"{before}{name}.")


@pytest.mark.parametrize("page", [page for page in PAGES if page not in WITH_FLAGS_OF_THEIR_OWN])
def test_flags_that_a_page_names_exist(page: str):
    """A flag that was renamed is renamed in the pages, too."""
    ours = {"--" + name.replace("_", "-") for name in (*Settings.model_fields, *inspect.signature(emulator).parameters)}
    ours |= {"--no-leader-elect"}
    told = {code.split()[0].split("=")[0] for code in CODE.findall(text_of(page)) if code.startswith("--")}

    assert told - ours - OTHER_PROGRAMS == set()


@pytest.mark.parametrize("page", PAGES)
def test_chart_values_that_a_page_sets_exist(page: str):
    """A value that is set on Helm's command line is one of the chart's."""
    values = yaml.safe_load(text_of("charts/llmbatch-operator/values.yaml"))
    told = re.findall(r"--set(?:-string|-json|-file)? '?([\w.]+)", text_of(page))

    assert [path for path in told if path not in set(paths_of(values))] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_plugin_that_a_page_names_exist(page: str):
    """Whoever types what a page says gets no "no such command"."""
    told = re.findall(r"kubectl llmbatch ([a-z]+)", text_of(page))

    assert [command for command in told if command not in COMMANDS] == []


@pytest.mark.parametrize("page", PAGES)
def test_metrics_that_a_page_names_exist(page: str):
    """A metric that was renamed is renamed in the pages, too."""
    made = {family.name for family in Metrics().registry.collect()}
    told = set(re.findall(r"`(llmbatch_\w+)", text_of(page)))

    assert {name for name in told if re.sub(r"_(total|bucket)$", "", name) not in made} == set()


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_targets_of_make_that_a_page_names_exist(page: str):
    """Whoever types what a page says gets no "no rule to make target"."""
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", text_of("Makefile"), re.MULTILINE))
    told = re.findall(r"(?:^|[`$] ?|    )make ([a-z][a-z0-9-]*)", text_of(page), re.MULTILINE)

    assert [target for target in told if target not in targets] == []


@pytest.mark.parametrize("page", PAGES)
def test_images_that_a_page_names_are_of_this_version(page: str):
    """Whoever copies a command gets the image that the chart beside it wants."""
    assert set(re.findall(r"llmbatch-operator:(\d+\.\d+\.\d+)", text_of(page))) <= {__version__}


def test_every_page_is_in_the_table_of_contents():
    """No page can be found by its address alone."""
    there = {path for path in DOCS.glob("**/*.md") if path.name != "index.md"}

    assert there - {page for index in DOCS.glob("**/index.md") for page in listed(index)} == set()


def listed(index: Path) -> Iterator[Path]:
    """The pages that an index has in its tables of contents."""
    for tree in TREE.findall(index.read_text(encoding="utf-8")):
        for line in filter(None, tree.splitlines()):
            yield from index.parent.glob(f"{line}.md") if not line.startswith(":") else ()


def test_every_decision_is_in_the_list():
    """Whoever asks why finds all decisions in one place."""
    linked = re.findall(r"^\| \[\d+\]\(([^)]+)\)", text_of("docs/adr/index.md"), re.MULTILINE)

    assert linked == sorted(path.name for path in (DOCS / "adr").glob("0*.md"))
