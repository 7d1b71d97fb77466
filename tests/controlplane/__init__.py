"""A real etcd, kube-apiserver and kube-controller-manager on loopback, from Go modules and the standard library alone.

It runs before the virtual environment exists, so nothing here imports a package that has to be installed.
"""
