"""A job's output in a ConfigMap or Secret."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Literal

import orjson

from llmbatch.api.names import API_VERSION, LABEL_JOB_NAME, LABEL_JOB_UID
from llmbatch.domain.errors import OutputConflict, OutputDenied, OutputTooLarge
from llmbatch.domain.output_owner import OutputOwner
from llmbatch.kube.errors import AlreadyExists, Conflict, Forbidden, Gone, Invalid, TooLarge
from llmbatch.kube.transport import Api, Target

OutputKind = Literal["ConfigMap", "Secret"]

PLURALS = {"ConfigMap": "configmaps", "Secret": "secrets"}
MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_VALUE_MAX = 63
TRIES = 3


async def write_output(
    api: Api,
    guard: Callable[[], None],
    kind: OutputKind,
    namespace: str,
    name: str,
    data: Mapping[str, bytes],
    *,
    owner: OutputOwner,
    retain: bool,
) -> None:
    """Make the object, or replace it where it carries the label of this owner's UID; the same content twice is
    written once. Made first and read only where it exists, since mostly it does not. ``retain``: no owner reference,
    so it outlives the job.

    Raises OutputConflict, OutputTooLarge, OutputDenied, KubeError.
    """
    collection = Target("v1", PLURALS[kind], namespace)
    one = Target("v1", PLURALS[kind], namespace, name)
    wanted = _manifest(kind, name, data, owner, retain=retain)
    try:
        for _ in range(TRIES):
            try:
                guard()
                await api.call("create", collection, body=orjson.dumps(wanted))
            except AlreadyExists:
                existing = await _read(api, one)
                if existing is None:
                    continue
                try:
                    if (replacement := _replacement(existing, wanted, owner)) is not None:
                        guard()
                        await api.call("update", one, body=orjson.dumps(replacement))
                except (Conflict, Gone):
                    continue
            return
    except TooLarge as error:
        raise OutputTooLarge(
            f"the results do not fit into {kind} {name} (1048576 bytes in all); use output.url"
        ) from error
    except (Forbidden, Invalid) as error:
        raise OutputDenied(f"the API server refused to take the results: {error.message}") from error
    raise Conflict(f"{kind} {namespace}/{name} keeps changing")


async def check_output(api: Api, kind: OutputKind, namespace: str, name: str, *, owner: OutputOwner) -> None:
    """Raise OutputConflict where an object of that name is not this owner's; nothing is written."""
    existing = await _read(api, Target("v1", PLURALS[kind], namespace, name))
    if existing is not None:
        _refuse_foreign(kind, existing["metadata"], owner)


async def _read(api: Api, one: Target) -> dict[str, Any] | None:
    try:
        return orjson.loads(await api.call("get", one))
    except Gone:
        return None


def _manifest(kind: str, name: str, data: Mapping[str, bytes], owner: OutputOwner, *, retain: bool) -> dict[str, Any]:
    labels = {LABEL_JOB_UID: owner.uid, MANAGED_BY: "llmbatch-operator"}
    if len(owner.name) <= LABEL_VALUE_MAX:
        labels[LABEL_JOB_NAME] = owner.name
    reference = {
        "apiVersion": API_VERSION, "kind": "BatchJob", "name": owner.name, "uid": owner.uid, "controller": True,
    }  # fmt: skip
    metadata = {"name": name, "labels": labels, "ownerReferences": [] if retain else [reference]}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata} | _content(kind, data)


def _content(kind: str, data: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    if kind == "Secret":
        return {"data": {key: _base64(value) for key, value in data.items()}}
    text, binary = {}, {}
    for key, value in data.items():
        try:
            text[key] = value.decode()
        except UnicodeDecodeError:
            binary[key] = _base64(value)
    return {"data": text, "binaryData": binary}


def _refuse_foreign(kind: str, meta: Mapping[str, Any], owner: OutputOwner) -> None:
    if (meta.get("labels") or {}).get(LABEL_JOB_UID) != owner.uid:
        raise OutputConflict(f"{kind} {meta['name']} exists and is not this job's; delete it, or name another output")


def _replacement(existing: dict[str, Any], wanted: dict[str, Any], owner: OutputOwner) -> dict[str, Any] | None:
    """The object to put in the place of ``existing``, None where nothing would change. Raises OutputConflict."""
    meta = existing["metadata"]
    _refuse_foreign(wanted["kind"], meta, owner)
    labels = (meta.get("labels") or {}) | wanted["metadata"]["labels"]
    references = wanted["metadata"]["ownerReferences"]
    content = {part: wanted.get(part) or {} for part in ("data", "binaryData")}
    same = all((existing.get(part) or {}) == content[part] for part in content)
    if same and meta.get("labels") == labels and (meta.get("ownerReferences") or []) == references:
        return None
    metadata = {
        "name": meta["name"],
        "resourceVersion": meta["resourceVersion"],
        "uid": meta["uid"],
        "labels": labels,
        "annotations": meta.get("annotations") or {},
        "ownerReferences": references,
    }
    kept = {"type": existing["type"]} if "type" in existing else {}
    return wanted | kept | {"metadata": metadata}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
