"""A real one-node Kubernetes for tests, made of Go modules and Debian packages; nothing is installed on the machine."""
