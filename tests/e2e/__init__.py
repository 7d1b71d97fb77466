"""The chart in a cluster with real pods: one that is given, kind, or a node that is made of packages."""
