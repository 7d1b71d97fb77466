"""Writes the reference pages of the three kinds from their schemas: ``python -m llmbatch.api.reference OUTDIR``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llmbatch.api import KINDS
from llmbatch.api.base import Resource, immutable
from llmbatch.api.crdgen import definition
from llmbatch.api.names import API_VERSION

Schema = dict[str, Any]

HEADER = "<!-- Generated from operator/llmbatch/api (make generate). Change the models, not this page. -->\n"
_RULES = "x-kubernetes-validations"
_FIXED = re.compile(r"(\w+) cannot change; (.+)")


class Section(NamedTuple):
    """An object of a resource that has fields of its own, and where it is, such as ``spec.output`` or ``shards[]``."""

    path: str
    schema: Schema


def page(kind: type[Resource]) -> str:
    """One kind's page in Markdown: what ``kubectl`` calls it and shows of it, and every field."""
    crd = definition(kind)["spec"]
    version = crd["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    troubleshooting = f"../troubleshooting.md#{crd['names']['singular']}"
    parts = [
        f"{HEADER}# {kind.KIND}\n\n{_plain(schema['description'])}\n",
        f"`apiVersion: {API_VERSION}`, `kind: {kind.KIND}`; for kubectl `{crd['names']['plural']}`, "
        f"`{crd['names']['singular']}` or `{'`, `'.join(crd['names']['shortNames'])}`. "
        f"What its conditions and their reasons mean, and what to do: [Troubleshooting]({troubleshooting}).\n",
    ]
    for field in ("spec", "status"):
        for section in sections(field, schema["properties"][field]):
            parts.append(_section(section))
    parts.append(_columns(version["additionalPrinterColumns"]))
    return "\n".join(parts)


def sections(path: str, schema: Schema) -> Iterator[Section]:
    """An object and all objects below it, in the order of the schema."""
    yield Section(path, schema)
    for name, field in schema["properties"].items():
        inner = _object_in(field)
        if inner is not None:
            yield from sections(_below(path, name, field), inner)


def write(folder: Path) -> list[Path]:
    """Write one page a kind into ``folder``, made if need be, and answer their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in KINDS:
        path = folder / f"{kind.KIND.lower()}.md"
        path.write_text(page(kind), encoding="utf-8")
        written.append(path)
    return written


def _section(section: Section) -> str:
    path, schema = section
    heading = "##" if "." not in path else "###"
    required = schema.get("required", ())
    rows = [
        f"| `{name}` | {_type(path, name, field)} | {_default(field, required=name in required)} | {_meaning(field)} |"
        for name, field in schema["properties"].items()
    ]
    table = "| field | type | default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    rules = [*schema.get(_RULES, ()), *(rule for field in schema["properties"].values() for rule in _own_rules(field))]
    told = "\nRules that the API server holds:\n\n" + "".join(_rules(rules)) if rules else ""
    return f"{heading} {path}\n\n{_plain(schema['description'])}\n\n{table}{told}"


def _rules(rules: list[Schema]) -> Iterator[str]:
    """One item a rule, with its message and its CEL; fields that cannot change for the same reason share one."""
    fixed: dict[str, list[str]] = {}
    others = []
    for rule in rules:
        found = _FIXED.fullmatch(rule["message"])
        if found and rule in immutable(found[1], advice=found[2]):
            fixed.setdefault(found[2], []).append(f"`{found[1]}`")
        else:
            others.append(f"- {_plain(rule['message'])}: `{rule['rule']}`\n")
    for advice, names in fixed.items():
        yield f"- {', '.join(names)} cannot be set, changed or removed later; {advice}\n"
    yield from others


def _own_rules(field: Schema) -> list[Schema]:
    """The rules of a field that has no section of its own to tell them in."""
    return field.get(_RULES, []) if _object_in(field) is None else []


def _object_in(field: Schema) -> Schema | None:
    """The object with fields that a field is, or that its items are."""
    found = field.get("items", field)
    return found if "properties" in found else None


def _below(path: str, name: str, field: Schema) -> str:
    return f"{path}.{name}" + ("[]" if "items" in field else "")


def _type(path: str, name: str, field: Schema) -> str:
    if _object_in(field) is not None:
        target = _below(path, name, field)
        return f"[{'list of objects' if 'items' in field else 'object'}](#{anchor(target)})"
    if "items" in field:
        return f"list of {field['items']['type']}s"
    if "additionalProperties" in field:
        return f"map of {field['additionalProperties']['type']}s"
    if field.get("x-kubernetes-int-or-string"):
        return "quantity"
    return "time" if field.get("format") == "date-time" else field["type"]


def anchor(heading: str) -> str:
    """What a heading of these pages is linked by: its letters and digits in lower case."""
    return "".join(letter for letter in heading.lower() if letter.isalnum())


def _default(field: Schema, *, required: bool) -> str:
    if "default" in field:
        value = field["default"]
        return f"`{value if isinstance(value, str) else json.dumps(value)}`"
    return "required" if required else ""


def _meaning(field: Schema) -> str:
    bounds = "; ".join(_bounds(field))
    return _plain(field["description"]) + (f" *{bounds[0].upper()}{bounds[1:]}.*" if bounds else "")


def _bounds(field: Schema) -> Iterator[str]:
    if "enum" in field:
        yield "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    if "minimum" in field or "maximum" in field:
        yield _between(field.get("minimum"), field.get("maximum"), "")
    if "minLength" in field or "maxLength" in field:
        yield _between(field.get("minLength"), field.get("maxLength"), " characters")
    if "minItems" in field or "maxItems" in field:
        yield _between(field.get("minItems"), field.get("maxItems"), " items")
    if "maxProperties" in field:
        yield _between(None, field["maxProperties"], " entries")
    if "pattern" in field:
        yield f"pattern {_code(field['pattern'])}"
    if field.get("x-kubernetes-list-type") == "set":
        yield "each item once"
    if "x-kubernetes-list-map-keys" in field:
        yield "one item for each " + ", ".join(field["x-kubernetes-list-map-keys"])
    for nested in ("items", "additionalProperties"):
        inner = field.get(nested)
        if inner and "properties" not in inner and (told := "; ".join(_bounds(inner))):
            yield f"each {told}"


def _between(least: int | None, most: int | None, what: str) -> str:
    if least is None:
        return f"at most {most}{what}"
    return f"at least {least}{what}" if most is None else f"{least} to {most}{what}"


def _columns(columns: list[Schema]) -> str:
    rows = [
        f"| {column['name'].upper()} | `{column['jsonPath']}` | {'with `-o wide`' if column.get('priority') else ''} |"
        for column in columns
    ]
    return "## Columns of kubectl get\n\n| column | shows | |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _code(text: str) -> str:
    """Code in a cell of a table, where a bar would end the cell."""
    fence = "``" if "`" in text else "`"
    return fence + text.replace("|", "\\|") + fence


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"\\{letter}" if letter in "\\|<*" else letter for letter in text)


def main(arguments: list[str]) -> int:
    """Entry point; answers the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m llmbatch.api.reference OUTDIR\n")
        return 2
    write(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
