"""Decisions as pure functions of values: no clock, network, file, Kubernetes or kopf."""
