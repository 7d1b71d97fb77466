"""The CustomResourceDefinitions say what the models say, in a form that the API server takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import Field

from llmbatch.api import KINDS
from llmbatch.api.base import Model, Quantity, Time
from llmbatch.api.crdgen import crds, resource_schema, structural, write

CHECKED_IN = Path(__file__).parents[2] / "crds"


class Inner(Model):
    """Something ``inner``,
    on two lines."""

    depth: int = Field(3, description="How deep.")


class Outer(Model):
    """What the tests below are about."""

    zebra: Inner | None = Field(None, description="Nearer to the field.")
    apple: Inner = Field(description="An apple.", json_schema_extra={"default": {}})
    bare: Inner
    only: Literal["24h"] = Field("24h", description="One value.")
    size: Quantity | None = Field(None, description="A size.")
    seen: Time | None = Field(None, description="A time.")


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside a schema, with its path."""
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from walk(field, f"{path}.{name}")
    for nested in ("items", "additionalProperties"):
        if isinstance(schema.get(nested), dict):
            yield from walk(schema[nested], f"{path}[]")


def own_fields(kind: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below spec and status."""
    for field in ("spec", "status"):
        yield from walk(resource_schema(kind)["properties"][field], field)


def test_an_optional_reference_is_inlined_and_the_fields_description_wins() -> None:
    """A field that may be absent has the schema of its model, under its own description."""
    assert structural(Outer, defaults=True)["properties"]["zebra"] == {
        "description": "Nearer to the field.",
        "type": "object",
        "properties": {"depth": {"description": "How deep.", "type": "integer", "format": "int64", "default": 3}},
    }


def test_a_field_without_description_takes_its_models_docstring_as_plain_text() -> None:
    """The docstring stands in for a description, on one line and without markup."""
    assert structural(Outer, defaults=True)["properties"]["bare"]["description"] == "Something inner, on two lines."


def test_fields_stand_in_the_order_of_the_model() -> None:
    """The CRD reads as the model does."""
    assert list(structural(Outer, defaults=True)["properties"]) == ["zebra", "apple", "bare", "only", "size", "seen"]


@pytest.mark.parametrize(
    ("field", "want"),
    [
        ("only", {"type": "string", "enum": ["24h"], "default": "24h"}),
        ("seen", {"type": "string", "format": "date-time"}),
        ("apple", {"default": {}}),
        ("size", {"x-kubernetes-int-or-string": True, "minimum": 1}),
    ],
)
def test_forms_of_fields(field: str, want: dict[str, Any]) -> None:
    """Literals become enums, times date-times, quantities int-or-string; defaults stay."""
    made = structural(Outer, defaults=True)["properties"][field]
    assert {key: made.get(key) for key in want} == want


def test_a_quantity_has_no_type() -> None:
    """The API server refuses a type beside int-or-string."""
    assert not {"type", "anyOf"} & set(structural(Outer, defaults=True)["properties"]["size"])


def test_a_union_without_a_structural_form_is_refused() -> None:
    """What the API server could not check is an error when generating, not when applying."""

    class Either(Model):
        """Two things."""

        value: int | bool = Field(description="Either.")

    with pytest.raises(ValueError, match="no structural form"):
        structural(Either, defaults=True)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_every_field_has_a_description(kind: Any) -> None:
    """``kubectl explain`` is the manual, and shows markup as it is."""
    missing = [path for path, schema in own_fields(kind) if not path.endswith("[]") and not schema.get("description")]
    marked = [path for path, schema in own_fields(kind) if "`" in schema.get("description", "")]
    assert (missing, marked) == ([], [])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_every_length_is_bounded(kind: Any) -> None:
    """Strings, lists and maps have a limit, so that CEL's cost can be estimated and no object grows without end."""

    def unbounded(schema: dict[str, Any]) -> bool:
        match schema.get("type"):
            case "string":
                return not ("maxLength" in schema or "enum" in schema or schema.get("format") == "date-time")
            case "array":
                return "maxItems" not in schema
            case "object":
                return "additionalProperties" in schema and "maxProperties" not in schema
        return False

    assert [path for path, schema in own_fields(kind) if unbounded(schema)] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_a_status_has_one_default_which_says_that_nothing_was_observed(kind: Any) -> None:
    """Another one would tell of something that never was."""
    status = resource_schema(kind)["properties"]["status"]
    assert [schema["default"] for _, schema in walk(status) if "default" in schema] == [{"observedGeneration": -1}]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)
def test_defaults_in_the_crd_are_those_of_the_model(kind: Any) -> None:
    """What the API server fills in is what the model would read had it not."""
    spec_model = kind.model_fields["spec"].annotation
    schema = resource_schema(kind)["properties"]["spec"]
    for name, field in spec_model.model_fields.items():
        wire = schema["properties"][field.alias or name]
        default = field.get_default(call_default_factory=True)
        if "default" not in wire:
            assert field.is_required() or default is None, name
        elif isinstance(default, Model):
            assert type(default).model_validate(wire["default"]) == default
        else:
            assert wire["default"] == default


def test_names_columns_and_subresource() -> None:
    """The kinds answer to their short names and their category, and have a status of their own."""
    for crd, kind in zip(crds(), KINDS, strict=True):
        names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
        assert (names["kind"], names["shortNames"]) == (kind.KIND, list(kind.SHORT_NAMES))
        assert names["categories"] == ["llmbatch"]
        assert version["subresources"] == {"status": {}}
        assert version["additionalPrinterColumns"][-1]["name"] == "Age"


def test_the_checked_in_files_are_up_to_date(tmp_path: Path) -> None:
    """Generating again changes not one byte."""
    for path in write(tmp_path):
        assert (CHECKED_IN / path.name).read_text() == path.read_text()
        assert yaml.safe_load(path.read_text()) in crds()


def _patterns(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for value in schema.values():
            yield from _patterns(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _patterns(value)


def test_a_pattern_means_the_same_to_the_api_server_and_to_python():
    """No pattern uses a class that is ASCII in Go and Unicode in Python: what one stores the other must read."""
    patterns = set(_patterns(crds()))

    assert patterns
    assert not [pattern for pattern in patterns if re.search(r"\\[swdbSWDB]", pattern)]
