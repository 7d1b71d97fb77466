"""When to ask a provider about a batch again."""

from __future__ import annotations

import random

from llmbatch.domain.remote import BatchState

MAX_INTERVAL = 300.0
JITTER = 0.1
HOUR = 3600.0
SETTLING = frozenset({BatchState.FINALIZING, BatchState.CANCELLING})


def poll_interval(base: float, age_seconds: float, state: BatchState, rng: random.Random) -> float:
    """Seconds until a batch of that age and state is polled next; ``base`` is the shortest interval.

    A batch that nears its end is worth asking about often, one that has run for hours is not. Never above five
    minutes (or ``base``, where that is longer), and then up to a tenth more: an account is never asked sooner.
    """
    interval = base
    if state not in SETTLING:
        interval *= 4 if age_seconds > 6 * HOUR else 2 if age_seconds > HOUR else 1
    bounded = min(interval, max(MAX_INTERVAL, base))
    return bounded * rng.uniform(1, 1 + JITTER)
