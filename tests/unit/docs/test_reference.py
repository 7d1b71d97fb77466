"""The reference of the three kinds tells every field, with all that the API server asks of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from llmbatch.api import KINDS, BatchFile, BatchJob, ModelDeployment
from llmbatch.api.base import Resource
from llmbatch.api.crdgen import resource_schema
from llmbatch.api.reference import main, page, sections, write

CHECKED_IN = Path(__file__).parents[3] / "docs" / "reference"


def part(kind: type[Resource], path: str) -> str:
    """A page's part about one object."""
    found = re.split(r"^#{2,3} (.+)\n", page(kind), flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))[path]


def row(kind: type[Resource], path: str, field: str) -> str:
    """A field's line in the table of its object."""
    return next(line for line in part(kind, path).splitlines() if line.startswith(f"| `{field}` |"))


def rules_of(schema: dict[str, Any]) -> list[dict[str, str]]:
    """Every CEL rule of a schema and of all below it."""
    inner = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    below = [rule for field in inner if isinstance(field, dict) for rule in rules_of(field)]
    return [*schema.get("x-kubernetes-validations", []), *below]


def test_the_pages_are_those_that_the_models_make(tmp_path: Path):
    """Whoever changes a field sees its page change in the same commit."""
    made = {path.name: path.read_text(encoding="utf-8") for path in write(tmp_path)}

    assert made == {path.name: path.read_text(encoding="utf-8") for path in CHECKED_IN.glob("*.md")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", ["spec", "status"])
def test_every_field_has_its_line(kind: type[Resource], field: str):
    """Nothing that can be written or read is left out, however deep it is."""
    for path, schema in sections(field, resource_schema(kind)["properties"][field]):
        told = re.findall(r"^\| `(\w+)` \|", part(kind, path), re.MULTILINE)
        assert told == list(schema["properties"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_is_told_with_its_message(kind: type[Resource]):
    """A refusal of the API server can be found on the page by its own words."""
    text = page(kind).replace("\\<", "<")
    for rule in rules_of(resource_schema(kind)):
        field, fixed, advice = rule["message"].partition(" cannot change; ")
        if fixed and re.fullmatch(r"\w+", field):
            told = re.findall(rf"^- (.+) cannot be set, changed or removed later; {re.escape(advice)}$", text, re.M)
            assert any(f"`{field}`" in names for names in told)
        else:
            assert f"- {rule['message']}: `{rule['rule']}`\n" in text


@pytest.mark.parametrize("kind", KINDS)
def test_links_inside_of_a_page_lead_to_a_heading(kind: type[Resource]):
    """From a field that is an object one comes to that object's fields."""
    text = page(kind)
    headings = {re.sub(r"\W", "", heading.lower()) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    links = re.findall(r"\]\(#(\w+)\)", text)

    assert links
    assert set(links) <= headings


@pytest.mark.parametrize(
    ("kind", "path", "field", "told"),
    [
        (BatchJob, "spec", "inputFileRef", "| [object](#specinputfileref) | required |"),
        (BatchJob, "spec", "completionWindow", "| string | `24h` | "),
        (BatchJob, "spec", "backoffLimit", "| integer | `3` | "),
        (BatchJob, "spec", "backoffLimit", "*0 to 100.*"),
        (BatchJob, "spec", "metadata", "*At most 11 entries; each at most 512 characters.*"),
        (BatchJob, "spec", "deletionPolicy", "*One of `Delete`, `Retain`.*"),
        (BatchJob, "status", "shards", "| [list of objects](#statusshards) |"),
        (BatchJob, "status", "startTime", "| time |"),
        (BatchFile, "spec", "targetModelNames", "| list of strings | required |"),
        (BatchFile, "spec", "targetModelNames", "1 to 16 items; each item once; each 1 to 253 characters"),
        (ModelDeployment, "spec.limits", "maxFileBytes", "| quantity |"),
        (ModelDeployment, "spec.limits", "maxFileBytes", r"(\.[0-9]{1,9})?(k\|M\|G\|T\|P\|Ki\|Mi\|Gi\|Ti\|Pi)?"),
        (ModelDeployment, "spec", "limits", "| [object](#speclimits) | `{}` |"),
        (ModelDeployment, "spec", "suspend", "| boolean | `false` |"),
    ],
)
def test_a_field_is_told_with_its_type_default_and_bounds(kind: type[Resource], path: str, field: str, told: str):
    """What a value must be like can be read before the API server refuses it."""
    assert told in row(kind, path, field)


def test_columns_of_kubectl_get_are_told():
    """What the table of kubectl get shows can be looked up."""
    text = part(BatchJob, "Columns of kubectl get")

    assert "| DONE/TOTAL | `.status.progress` |  |" in text
    assert "| BATCH | `.status.batchID` | with `-o wide` |" in text


def test_the_generator_needs_a_folder(capsys: pytest.CaptureFixture[str]):
    """Whoever calls it wrongly is told how."""
    assert main([]) == 2
    assert "OUTDIR" in capsys.readouterr().err
