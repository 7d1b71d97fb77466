"""The work queue and its workers, the poll schedule, the clock, and a resolver of host names."""
