"""Inputs: their sources read and checked, and what each deployment takes of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from llmbatch.api import BatchFile, ModelDeployment
from llmbatch.api.batchfile import BatchFileStatus
from llmbatch.domain.errors import SourceChanged
from llmbatch.domain.quantity import quantity
from llmbatch.domain.requests.translation import Translation
from llmbatch.domain.requests.validation import MAX_LINE_BYTES, InputCheck, InputLimits, InputReport
from llmbatch.providers.openai import CAPABILITIES
from llmbatch.providers.registry import target_of
from llmbatch.storage.source import Source

KEPT_REPORTS = 4096
"""Reports of validated inputs in memory; one that was dropped costs one more reading of the source."""
CHANGED = "the source changed after it was validated; put it back, or give new content a new BatchFile"


class Inputs:
    """Reads sources, and remembers what validation found of them."""

    def __init__(self, source_of: Callable[[BatchFile], Source], *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._source_of = source_of
        self.max_line_bytes = max_line_bytes
        self._reports: OrderedDict[str, InputReport] = OrderedDict()

    def source(self, file: BatchFile) -> Source:
        """The file's source."""
        return self._source_of(file)

    async def report(self, file: BatchFile, limits: InputLimits) -> InputReport:
        """What the input is. Raises StorageError, CredentialsError, and SourceChanged where it is no longer what
        was validated."""
        uid = file.metadata.uid
        if uid not in self._reports:
            limits = replace(limits, max_line_bytes=self.max_line_bytes)
            check = InputCheck(file.spec.target_model_names, limits)
            async with contextlib.aclosing(self.source(file).chunks()) as chunks:
                async for chunk in chunks:
                    check.feed(chunk)
                    if check.refused:
                        # Whatever follows, and however much it is, the file stays refused.
                        break
                    await asyncio.sleep(0)
            report = check.finish()
            if file.status.sha256 is not None and report.sha256 != file.status.sha256:
                raise SourceChanged(CHANGED)
            self._reports[uid] = report
            if len(self._reports) > KEPT_REPORTS:
                self._reports.popitem(last=False)
        self._reports.move_to_end(uid)
        return self._reports[uid]

    def forget(self, uid: str) -> None:
        """The file is gone."""
        self._reports.pop(uid, None)


async def translated(source: Source, translation: Translation, status: BatchFileStatus) -> AsyncIterator[bytes]:
    """A source's translated lines. The last piece is held back until the whole is known to be what was validated, so
    that a provider never has a complete file of anything else. Raises SourceChanged and what the source raises."""
    held, left = b"", status.bytes or 0
    try:
        async with contextlib.aclosing(source.chunks()) as chunks:
            async for chunk in chunks:
                left -= len(chunk)
                if left < 0:
                    raise SourceChanged(CHANGED)
                if made := translation.feed(chunk):
                    if held:
                        yield held
                    held = made
        held += translation.finish()
    except ValueError:
        raise SourceChanged(CHANGED) from None
    if translation.sha256 != status.sha256:
        raise SourceChanged(CHANGED)
    yield held


def limits_of(deployment: ModelDeployment) -> InputLimits:
    """What a deployment takes; its own limits can only be below the provider's."""
    known, own = target_of(deployment.spec).capabilities, deployment.spec.limits
    requests, size = known.max_requests_per_file, known.max_file_bytes
    if own.max_requests_per_file is not None:
        requests = min(requests, own.max_requests_per_file)
    if own.max_file_bytes is not None:
        size = min(size, quantity(own.max_file_bytes))
    return InputLimits(requests, size, known.endpoints, known.max_embedding_inputs, known.streams)


def limits_of_any(deployments: Sequence[ModelDeployment]) -> InputLimits:
    """What at least one of these deployments takes, and a stream only if all do, for no copy differs in its bodies; the
    size of OpenAI's own where there is none yet."""
    found = [limits_of(deployment) for deployment in deployments]
    if not found:
        return InputLimits(CAPABILITIES.max_requests_per_file, CAPABILITIES.max_file_bytes)
    endpoints = [limits.endpoints for limits in found if limits.endpoints is not None]
    inputs = [limits.max_embedding_inputs for limits in found if limits.max_embedding_inputs is not None]
    return InputLimits(
        max_requests=max(limits.max_requests or 0 for limits in found),
        max_bytes=max(limits.max_bytes or 0 for limits in found),
        endpoints=frozenset().union(*endpoints) if len(endpoints) == len(found) else None,
        max_embedding_inputs=max(inputs) if len(inputs) == len(found) else None,
        streams=all(limits.streams for limits in found),
    )


def form_of(deployment: ModelDeployment) -> str:
    """What lines are translated to on a deployment."""
    target = target_of(deployment.spec)
    return f"{target.model} {target.capabilities.url_prefix}/"
