"""Cursors over lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmbatch.emulator.exchanges import Exchange


@dataclass(frozen=True)
class Page:
    """Which part of a list was asked for."""

    after: str | None
    limit: int

    def view(self, data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
        """That part, with what is needed to go on."""
        return {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": more,
        }


def read_page(exchange: Exchange, *, default: int, most: int) -> Page:
    """The page that a query asks for. Raises Refusal."""
    query = exchange.request.query
    raw = query.get("limit")
    try:
        limit = default if raw is None else int(raw)
    except ValueError:
        raise exchange.dialect.invalid(
            "Invalid type for 'limit': expected an integer.", code="invalid_type", param="limit"
        ) from None
    if not 1 <= limit <= most:
        side, word, bound = ("below", "minimum", 1) if limit < 1 else ("above", "maximum", most)
        raise exchange.dialect.invalid(
            f"Invalid 'limit': integer {side} {word} value. "
            f"Expected a value {'>=' if limit < 1 else '<='} {bound}, but got {limit} instead.",
            code=f"integer_{side}_{word[:3]}_value",
            param="limit",
        )
    return Page(after=query.get("after") or None, limit=limit)
