"""Writes the table of the chart's values into the pages that show it, from the comments in values.yaml.

``python charts/values_table.py PAGE…``: in each page the lines between the two marks are replaced.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

VALUES = Path(__file__).parent / "llmbatch-operator" / "values.yaml"
BEGIN = "<!-- values: generated from the comments in values.yaml (make generate) -->\n"
END = "<!-- values: end -->\n"
LONGEST_DEFAULT = 72


class Undocumented(Exception):
    """A value has no comment; the text is its name."""


@dataclass(frozen=True)
class Value:
    """One documented value; `name` is its path with dots."""

    name: str
    default: Any
    text: str


def documented(source: str) -> list[Value]:
    """The values of a values.yaml, in its order. A key with a comment right above it is a value, whatever it holds;
    a mapping without one is a group of values. Raises Undocumented."""
    root = yaml.compose(source, yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    return list(_values(root, "", source.splitlines()))


def _values(group: yaml.MappingNode, prefix: str, lines: Sequence[str]) -> Iterator[Value]:
    for key, node in group.value:
        name = prefix + key.value
        text = _comment_above(key.start_mark.line, lines)
        if text:
            yield Value(name, _built(node), text)
        elif isinstance(node, yaml.MappingNode) and node.value:
            yield from _values(node, f"{name}.", lines)
        else:
            raise Undocumented(name)


def _built(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node))


def _comment_above(line: int, lines: Sequence[str]) -> str:
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(comment.strip().lstrip("# ") for comment in lines[first:line])


def table(values: Sequence[Value]) -> str:
    """The values as a table in Markdown."""
    rows = [f"| `{value.name}` | {_shown(value.default)} | {_cell(value.text)} |\n" for value in values]
    return "| value | default | |\n|---|---|---|\n" + "".join(rows)


def _shown(default: Any) -> str:
    text = json.dumps(default, ensure_ascii=False)
    return f"`{text}`" if len(text) <= LONGEST_DEFAULT else "see `values.yaml`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def with_table(page: str, new: str) -> str:
    """The page with what is between its marks replaced. Raises ValueError where the marks are missing."""
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError("the page has no place for the table: the two marks are missing")
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


def main(pages: Sequence[str]) -> int:
    """Entry point; answers the exit status."""
    try:
        new = table(documented(VALUES.read_text(encoding="utf-8")))
    except Undocumented as error:
        sys.stderr.write(f"{VALUES}: {error} has no comment above it\n")
        return 1
    for page in map(Path, pages):
        page.write_text(with_table(page.read_text(encoding="utf-8"), new), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
