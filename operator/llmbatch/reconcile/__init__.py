"""Observe, decide, act, and write the status: a folder for each kind, and what they share."""
