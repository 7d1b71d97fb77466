"""Argo CD's health checks and comparison, as far as its controller does them to resources like ours."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lupa.lua51 import LuaRuntime

from support.cluster import Object

CHECKS = Path(__file__).resolve().parents[2] / "examples" / "argocd" / "resource_customizations"
HOOK_FINALIZER = "argocd.argoproj.io/hook-finalizer"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
HEALTHS = frozenset({"Healthy", "Progressing", "Suspended", "Degraded", "Missing", "Unknown"})
OPENED = frozenset(
    (
        *("_G", "_VERSION", "assert", "collectgarbage", "error", "getmetatable", "ipairs", "next", "pairs", "pcall"),
        *("rawequal", "rawget", "rawset", "require", "select", "setmetatable", "table", "tonumber", "tostring"),
        *("type", "unpack", "xpcall"),
    )
)
"""What a check from argocd-cm may use: Lua's base and its tables. Argo CD opens strings, mathematics and the like only
for checks that are built into it; what loads code or files is left out here, since no check needs it."""


@dataclass(frozen=True)
class Health:
    """What a check says."""

    status: str
    message: str = ""


def script_of(kind: str) -> str:
    """The check of one of our kinds."""
    return (CHECKS / "llmbatch.dev" / kind / "health.lua").read_text()


def health(resource: Object) -> Health:
    """How Argo CD shows a resource: one that is being deleted is told by its controller and not by a check."""
    metadata = resource["metadata"]
    if "deletionTimestamp" in metadata and HOOK_FINALIZER not in metadata.get("finalizers", ()):
        return Health("Progressing", "Pending deletion")
    return checked(script_of(resource["kind"]), resource)


def checked(script: str, resource: Object) -> Health:
    """What a check says of a resource, run in Lua 5.1 with what Argo CD gives it. Raises LuaError, and ValueError where
    Argo CD would show an invalid answer."""
    runtime = LuaRuntime(unpack_returned_tuples=True)
    variables: Any = runtime.globals()
    for name in list(variables):
        if name not in OPENED:
            variables[name] = None
    variables.obj = runtime.table_from(cast(Mapping[str, Any], resource), recursive=True)
    answer = runtime.execute(script)
    told = Health(**{str(key): str(value) for key, value in cast(Any, answer).items()})
    if told.status not in HEALTHS:
        raise ValueError(f"{told.status} is no health status of Argo CD")
    return told


def predicted(live: Object, applied: Object, last_applied: Object) -> Object:
    """What a sync would make of a live object; Argo CD shows a difference where it is not the live object itself.

    The three-way merge of JSON merge patches that Argo CD makes for resources without a schema of their own in Go:
    what is applied is set, what was applied before and is not any more is removed, and all else stays.
    """
    wanted, before = (_without_namespace(item) for item in (applied, last_applied))
    return _merged(live, wanted, before)


def _without_namespace(item: Object) -> Object:
    metadata = {key: value for key, value in item["metadata"].items() if key != "namespace"}
    if not metadata.get("annotations"):
        metadata.pop("annotations", None)
    return {**item, "metadata": metadata}


def _merged(live: Any, applied: Any, last_applied: Any) -> Any:
    if not isinstance(live, dict) or not isinstance(applied, dict):
        return deepcopy(applied)
    before = last_applied if isinstance(last_applied, dict) else {}
    kept = {key: value for key, value in live.items() if key in applied or key not in before}
    return kept | {key: _merged(live.get(key), value, before.get(key)) for key, value in applied.items()}
