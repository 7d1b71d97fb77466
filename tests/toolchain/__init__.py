"""The Go programs that tests run, built once from pinned modules into the user's cache.

It runs before the virtual environment exists, so nothing here imports anything but the standard library.
"""
