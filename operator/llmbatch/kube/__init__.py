"""The Kubernetes client: resources, Secrets, Events, outputs and the Lease."""
