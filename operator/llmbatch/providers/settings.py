"""How calls to providers are bounded, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that each phase of a call may take, and whole calls by kind."""

    connect: float = 10.0
    read: float = 60.0
    write: float = 60.0
    upload_answer: float = 180.0
    """How long the answer to an upload may take: the provider stores it first."""
    call: float = 120.0
    create: float = 60.0
    """A whole create, waiting included; what exactly-once waits for is measured from it."""
    listing: float = 900.0
    """A whole listing, of all its pages."""
    transfer: float = 3600.0
    """A whole upload or download."""


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Bounds on what is asked of one account, and how the network is reached."""

    timeouts: Timeouts = field(default_factory=Timeouts)
    concurrent_calls: int = 16
    concurrent_uploads: int = 4
    concurrent_downloads: int = 4
    """Each apart from the others: a slow source holds up no results, and neither of them holds up calls."""
    retries: int = 2
    backoff: float = 0.5
    """Seconds before the first retry; doubled for the second."""
    patience: float = 5.0
    """The longest wait in seconds that a call takes upon itself; what must wait longer fails with ``retry_after``."""
    idle_after: float = 600.0
    """Seconds after which an unused account's connections are closed."""
    max_accounts: int = 256
    proxy: str | None = None
    """An egress proxy of the administrator's; it then decides which addresses are reached by name."""


def _allow() -> None:
    return None


def _ignore_call(provider: str, operation: str, code: str, seconds: float) -> None:
    return None


def _ignore_bytes(provider: str, count: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who is asked before a request is sent, and told after it."""

    guard: Callable[[], None] = _allow
    """Called just before each request is sent; raises to stop it."""
    observe: Callable[[str, str, str, float], None] = _ignore_call
    """Provider, operation, HTTP status or name of the error, seconds."""
    uploaded: Callable[[str, int], None] = _ignore_bytes
    """Provider, bytes of an input file that it took."""
