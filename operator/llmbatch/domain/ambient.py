"""Which objects the operator's own credentials may be used for on behalf of tenants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

NAMESPACE = "{namespace}"
"""A part of a prefix that stands for the name of whoever's file or job it is."""

_PREFIX = re.compile(r"s3://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])/(.*)")
_PART = re.compile(r"[\w.=@+-]+")
"""A prefix is no list and no pattern, so no blanks and no stars."""
_PLAIN = re.compile(r"[\w !$&'()*+,:;=@.~-]+")
"""No % and no backslash: some stores, or what stands before them, decode a key once more or take \\ for /."""


@dataclass(frozen=True, slots=True)
class AmbientPrefix:
    """What lies below ``s3://BUCKET/PART/…/``; no parts: all of the bucket."""

    bucket: str
    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> AmbientPrefix:
        """The prefix that an administrator wrote. Raises ValueError, saying what a prefix looks like."""
        found = _PREFIX.fullmatch(text)
        *parts, end = found[2].split("/") if found else ("?",)
        if not found or end or not all(part == NAMESPACE or _is(_PART, part) for part in parts):
            raise ValueError(
                f"{text!r} is not of the form s3://BUCKET/PART/…/ with a / at its end; a part is a plain name, or"
                f" {NAMESPACE} for the tenant's own"
            )
        return cls(found[1], tuple(parts))

    def covers(self, bucket: str, key: str, namespace: str) -> bool:
        """Whether this object lies below the prefix, for a tenant of this namespace."""
        own = tuple(namespace if part == NAMESPACE else part for part in self.parts)
        parts = tuple(key.split("/"))
        return (
            bucket == self.bucket
            and parts[: len(own)] == own
            and len(parts) > len(own)
            and all(_is(_PLAIN, part) for part in parts)
        )


def covered(prefixes: Sequence[AmbientPrefix], bucket: str, key: str, namespace: str) -> bool:
    """Whether one of the prefixes covers this object."""
    return any(prefix.covers(bucket, key, namespace) for prefix in prefixes)


def _is(kind: re.Pattern[str], part: str) -> bool:
    return bool(kind.fullmatch(part)) and part not in (".", "..")
