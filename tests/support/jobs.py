"""What tests read off a BatchJob and its results."""

from __future__ import annotations

import json
from typing import Any

from support.cluster import Object, condition


def status(item: Object) -> dict[str, Any]:
    """The status, empty where nothing was written yet."""
    return item.get("status", {})


def conditions(item: Object) -> dict[str, str]:
    """The conditions that are True, with their reasons."""
    return {found["type"]: found["reason"] for found in status(item).get("conditions", ()) if found["status"] == "True"}


def waits_for(reason: str) -> Any:
    """A predicate: the object is Reconciling for this reason."""
    return lambda item: conditions(item).get("Reconciling") == reason


def message(item: Object, type_: str) -> str:
    """What a condition tells a person; empty where there is no such condition."""
    return (condition(item, type_) or {}).get("message", "")


def json_lines(text: str | bytes) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def custom_ids(text: str | bytes) -> list[str]:
    """The ids of result lines, sorted."""
    return sorted(line["custom_id"] for line in json_lines(text))
