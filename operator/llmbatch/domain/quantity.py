"""Kubernetes quantities and durations as numbers."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation

_SUFFIXES = {
    "": 1,
    **{suffix: 1000**power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{suffix: 1024**power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)")
_DURATION = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")


def quantity(text: int | str) -> int:
    """A quantity such as ``200Mi`` in units; raises ValueError when it is none."""
    match = _QUANTITY.fullmatch(str(text))
    if not match or match[2] not in _SUFFIXES:
        raise ValueError("not a quantity; write a number with an optional suffix such as Mi")
    try:
        return int(Decimal(match[1]) * _SUFFIXES[match[2]])
    except InvalidOperation as error:
        raise ValueError("not a quantity") from error


def duration(text: str) -> timedelta:
    """A duration such as ``720h`` or ``1h30m``; raises ValueError when it is none."""
    match = _DURATION.fullmatch(text)
    if not match or not text:
        raise ValueError("not a duration; write hours, minutes and seconds such as 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)
