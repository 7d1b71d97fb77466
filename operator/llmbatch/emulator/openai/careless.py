"""How providers write that call themselves compatible and are not quite: each habit was seen in public reports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

STATES: Mapping[str, str] = {
    "validating": "in_queue",
    "in_progress": "Running",
    "finalizing": "processing",
    "completed": "succeeded",
    "cancelled": "canceled",
    "uploaded": "pending",
    "processed": "succeeded",
}
TIMES = ("created_at", "expires_at")


def new_id(kind: str, made: str) -> str:
    """An id that is a path."""
    return f"{kind}/{made}"


def batch_view(view: dict[str, Any]) -> dict[str, Any]:
    """Empty objects for no file, counts as text, errors as texts, times in words."""
    view = _view(view)
    for name in ("output_file_id", "error_file_id"):
        view[name] = view[name] or {}
    view["request_counts"] = {name: str(count or 0) for name, count in view["request_counts"].items()}
    if view["errors"]:
        view["errors"] = [f"{error['code']}: see line {error['line']}" for error in view["errors"]["data"]]
    return view


def file_view(view: dict[str, Any]) -> dict[str, Any]:
    """A purpose of its own, and a size as text."""
    view = _view(view)
    if view["purpose"] == "batch":
        view["purpose"] = "batch_input"
    view["bytes"] = str(view["bytes"])
    return view


def page_view(view: dict[str, Any]) -> dict[str, Any]:
    """No list where there is nothing, and no word of whether there is more."""
    return {"object": "list", "data": view["data"] or None}


def _view(view: dict[str, Any]) -> dict[str, Any]:
    view = {**view, "status": STATES.get(view["status"], view["status"])}
    for name in TIMES:
        view[name] = datetime.fromtimestamp(view[name], UTC).isoformat() if view[name] else ""
    return view
