"""A Kubernetes operator that runs batch jobs on LLM providers."""

__version__ = "0.2.0"
