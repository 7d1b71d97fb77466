"""Files as they are read for their jobs: one read for all jobs of a file, as long as the file does not change."""

from __future__ import annotations

from collections import OrderedDict

from llmbatch.api import BatchFile
from llmbatch.engine.queue import Key
from llmbatch.kube.client import Kube
from llmbatch.reconcile.index.index import Index

KEPT = 64
"""Whole files in memory; the index knows of all the others what others need."""


class RecentFiles:
    """Reads files; one that was read already is read again only when the index has seen another version of it."""

    def __init__(self, kube: Kube, index: Index) -> None:
        self._kube = kube
        self._index = index
        self._kept: OrderedDict[Key, BatchFile] = OrderedDict()

    async def get(self, key: Key) -> BatchFile | None:
        """The file, or None where there is none. Raises KubeError."""
        kept = self._kept.get(key)
        if kept is not None and kept.metadata.resource_version == self._index.version_of(key):
            self._kept.move_to_end(key)
            return kept
        self._kept.pop(key, None)
        file = await self._kube.get(BatchFile, key.namespace, key.name)
        if file is not None:
            self._kept[key] = file
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return file
