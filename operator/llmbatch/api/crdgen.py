"""Writes the CustomResourceDefinitions from the models: ``python -m llmbatch.api.crdgen OUTDIR…``."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import yaml

from llmbatch.api import KINDS
from llmbatch.api.base import Model, Resource
from llmbatch.api.names import API_VERSION, GROUP, VERSION

Schema = dict[str, Any]

CATEGORY = "llmbatch"
HEADER = "# Generated from operator/llmbatch/api by crdgen (make generate). Change the models, not this file.\n"
UNSEEN = {"observedGeneration": -1}
"""The status before the operator looked: without it kstatus, and so Flux, takes what was just created for done."""
_ORDER = ("description", "type", "format", "enum", "default")
_LAST = ("required", "properties", "additionalProperties", "items")


def crds() -> list[dict[str, Any]]:
    """The CustomResourceDefinitions of all kinds, in a fixed order."""
    return [definition(kind) for kind in KINDS]


def definition(kind: type[Resource]) -> dict[str, Any]:
    """One CustomResourceDefinition in ``apiextensions.k8s.io/v1``."""
    singular = kind.KIND.lower()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.KIND,
                "listKind": f"{kind.KIND}List",
                "plural": kind.PLURAL,
                "singular": singular,
                "shortNames": list(kind.SHORT_NAMES),
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [dict(column) for column in kind.COLUMNS],
                    "schema": {"openAPIV3Schema": resource_schema(kind)},
                }
            ],
        },
    }


def resource_schema(kind: type[Resource]) -> Schema:
    """The structural schema of a whole resource. Metadata is the API server's own."""
    return {
        "description": _plain(kind.__doc__),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": f"Version of this schema: {API_VERSION}.", "type": "string"},
            "kind": {"description": f"Kind of this object: {kind.KIND}.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": _field_schema(kind, "spec", defaults=True),
            # Any other default in a status would tell of things that the operator never saw.
            "status": _ordered(_field_schema(kind, "status", defaults=False) | {"default": UNSEEN}),
        },
    }


def structural(model: type[Model], *, defaults: bool) -> Schema:
    """The structural schema of one model, without references. Rules: Kubernetes, "Specifying a structural schema"."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _Structural(raw.get("$defs", {}), defaults=defaults).of(raw)


def write(folder: Path) -> list[Path]:
    """Write one file a kind into ``folder``, made if need be, and answer their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for crd in crds():
        path = folder / f"{GROUP}_{crd['spec']['names']['plural']}.yaml"
        path.write_text(HEADER + to_yaml(crd), encoding="utf-8")
        written.append(path)
    return written


def to_yaml(crd: dict[str, Any]) -> str:
    """YAML that is the same, byte for byte, for the same models."""
    return yaml.dump(crd, Dumper=_NoAliases, sort_keys=False, width=120, allow_unicode=True)


class _NoAliases(yaml.SafeDumper):
    """YAML without anchors: people read these files."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Structural:
    """Turns what pydantic writes (JSON Schema 2020-12) into what the API server takes (structural OpenAPI v3)."""

    def __init__(self, definitions: dict[str, Schema], *, defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def of(self, raw: Schema) -> Schema:
        """The structural form of ``raw``. Raises ValueError for what has none."""
        made = self._flat(raw)
        if made.pop("x-kubernetes-int-or-string", False):
            made.pop("anyOf")
            made["x-kubernetes-int-or-string"] = True
        if "anyOf" in made or "oneOf" in made or "allOf" in made:
            raise ValueError(f"no structural form: {made}")
        if "const" in made:
            made["enum"] = [made.pop("const")]
        if made.get("type") == "integer":
            made["format"] = "int64"
        if not self._defaults:
            made.pop("default", None)
        if "description" in made:
            made["description"] = _plain(made["description"])
        if "properties" in made:
            made["properties"] = {name: self.of(field) for name, field in made["properties"].items()}
        for nested in ("items", "additionalProperties"):
            if isinstance(made.get(nested), dict):
                made[nested] = self.of(made[nested])
        return _ordered(made)

    def _flat(self, raw: Schema) -> Schema:
        """``raw`` with its reference and its optional form merged in; what stands nearer to the field wins."""
        outer = {key: value for key, value in raw.items() if key not in ("title", "$defs")}
        if "$ref" in outer:
            name = outer.pop("$ref").rsplit("/", 1)[-1]
            outer = self._flat(self._definitions[name]) | outer
        if "anyOf" in outer and {"type": "null"} in outer["anyOf"]:
            choices = [choice for choice in outer.pop("anyOf") if choice != {"type": "null"}]
            inner = self._flat(choices[0]) if len(choices) == 1 else {"anyOf": choices}
            outer = inner | outer
            # None is how Python says "absent"; the API server has absent fields.
            if outer.get("default", ...) is None:
                del outer["default"]
        return outer


def _field_schema(kind: type[Resource], field: str, *, defaults: bool) -> Schema:
    annotated = kind.model_fields[field]
    model = annotated.annotation
    if not (isinstance(model, type) and issubclass(model, Model)):
        raise ValueError(f"{kind.KIND}.{field} is not a model")
    made = structural(model, defaults=defaults)
    return made | {"description": _plain(annotated.description or model.__doc__)}


def _ordered(schema: Schema) -> Schema:
    middle = sorted(set(schema) - set(_ORDER) - set(_LAST))
    return {key: schema[key] for key in (*_ORDER, *middle, *_LAST) if key in schema}


def _plain(text: str | None) -> str:
    """Text for ``kubectl explain``, which shows markup as it is: one line, no backticks."""
    return " ".join(inspect.cleandoc(text or "").replace("`", "").split())


def main(arguments: list[str]) -> int:
    """Entry point; answers the exit status."""
    if not arguments:
        sys.stderr.write("usage: python -m llmbatch.api.crdgen OUTDIR...\n")
        return 2
    for folder in arguments:
        write(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
