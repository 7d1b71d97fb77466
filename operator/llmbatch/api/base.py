"""What the three resources share: field naming, references, conditions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

_ACRONYMS = {"id": "ID", "url": "URL", "ttl": "TTL", "ai": "AI"}


def wire_name(field: str) -> str:
    """The Kubernetes name of a Python field: ``input_file_id`` is ``inputFileID``."""
    first, *rest = field.rstrip("_").split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


def rfc3339(moment: datetime) -> str:
    """Whole seconds in UTC, as Kubernetes writes ``metav1.Time``."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Namespace = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
Quantity = Annotated[
    int | str,
    Field(
        json_schema_extra={
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maxLength": 32,
            "pattern": r"^[0-9]{1,15}(\.[0-9]{1,9})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
        }
    ),
]
VISIBLE = r"^[!-~]+$"
"""ASCII that can be seen: no white space, nothing that moves a terminal's cursor."""
MAX_ID_CHARACTERS = 1024
"""Of a provider's ids, some of which are paths."""
ProviderID = Annotated[str, Field(max_length=MAX_ID_CHARACTERS)]
ModelName = Annotated[str, Field(min_length=1, max_length=253, pattern=VISIBLE)]
Decimal = Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", max_length=19)]
Duration = Annotated[str, Field(pattern=r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$", min_length=2, max_length=21)]


def immutable(*fields: str, advice: str) -> list[dict[str, str]]:
    """CEL transition rules for the parent of ``fields``: none may be set, changed or removed later.

    Written with ``has`` and not with optionals: for those the API server estimates a cost without bound and refuses.
    """
    return [
        {
            "rule": f"has(self.{field}) == has(oldSelf.{field})"
            f" && (!has(self.{field}) || self.{field} == oldSelf.{field})",
            "message": f"{field} cannot change; {advice}",
        }
        for field in fields
    ]


def validations(*rules: dict[str, str] | list[dict[str, str]]) -> dict[str, Any]:
    """The schema extension that carries CEL rules."""
    flat = [rule for group in rules for rule in (group if isinstance(group, list) else [group])]
    return {"x-kubernetes-validations": flat}


class Model(BaseModel):
    """A piece of a resource, named as Kubernetes names it on the wire; immutable in Python."""

    model_config = ConfigDict(alias_generator=wire_name, populate_by_name=True, frozen=True, extra="ignore")

    def wire(self) -> dict[str, Any]:
        """The JSON object as it is written to the API server; absent fields are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class LocalObjectReference(Model):
    """Names an object in the same namespace."""

    name: Name = Field(description="Name of the object, in the namespace of this resource.")


class KeyReference(Model):
    """Names one key of a ConfigMap or Secret in the same namespace."""

    name: Name = Field(description="Name of the object, in the namespace of this resource.")
    key: DataKey = Field(description="Key inside the object's data.")


class NamespacedReference(Model):
    """Names an object that may live in another namespace."""

    namespace: Namespace = Field(description="Namespace of the object.")
    name: Name = Field(description="Name of the object.")


class Condition(Model):
    """One observation of the resource's state, as in ``metav1.Condition``."""

    type: str = Field(max_length=316, description="What is observed, in CamelCase.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: int | None = Field(default=None, description="The metadata.generation that this was seen on.")
    last_transition_time: Time = Field(description="When status last changed.")
    reason: str = Field(max_length=1024, description="Why, as one CamelCase word for programs.")
    message: str = Field(default="", max_length=32768, description="Why, and what to do about it, for people.")


class ObjectMeta(Model):
    """The part of ``metav1.ObjectMeta`` that the operator reads."""

    name: str
    namespace: str
    uid: str
    resource_version: str = ""
    generation: int = 1
    creation_timestamp: datetime
    deletion_timestamp: datetime | None = None
    finalizers: list[str] = []
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


class Resource(Model):
    """A custom resource: what ``crdgen`` needs to know of its kind, and its metadata."""

    KIND: ClassVar[str]
    PLURAL: ClassVar[str]
    SHORT_NAMES: ClassVar[tuple[str, ...]]
    COLUMNS: ClassVar[tuple[dict[str, Any], ...]]

    metadata: ObjectMeta


def column(name: str, path: str, kind: str = "string", *, priority: int = 0, description: str = "") -> dict[str, Any]:
    """One printer column of ``kubectl get``."""
    made: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if description:
        made["description"] = description
    if priority:
        made["priority"] = priority
    return made


AGE = column("Age", ".metadata.creationTimestamp", "date")
Conditions = Annotated[
    list[Condition],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
