"""The programs that tests run, none of them ours: found on this machine, downloaded, or built from pinned Go modules.

It runs before the virtual environment exists, so nothing here imports anything but the standard library.
"""
