"""Settings of the property tests: the same examples in each run, and no time limits."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("domain", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("domain")
