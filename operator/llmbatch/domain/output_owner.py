"""Whose an output is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutputOwner:
    """The BatchJob that an output belongs to; ``uid`` decides, the name is for people and owner references."""

    name: str
    namespace: str
    uid: str
