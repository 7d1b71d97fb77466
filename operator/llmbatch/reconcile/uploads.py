"""Uploads: each copy of a file on its way to one deployment, beside all others."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from llmbatch.api import BatchFile, ModelDeployment
from llmbatch.api.batchfile import CopyState, FileDeployment, ProviderFile
from llmbatch.api.reasons import Reason
from llmbatch.domain import file as lifecycle
from llmbatch.domain.errors import LLMBatchError, NotFound, ProviderError, SourceChanged
from llmbatch.domain.lines import InputCheck, InputReport
from llmbatch.domain.quantity import duration, quantity
from llmbatch.domain.remote import FileState, RemoteFile
from llmbatch.domain.translate import Translation
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import WorkQueue
from llmbatch.providers.protocol import BatchProvider
from llmbatch.providers.registry import target_of
from llmbatch.reconcile.accounts import Accounts
from llmbatch.reconcile.index import key_of
from llmbatch.storage.source import Source

logger = logging.getLogger(__name__)

KEPT_REPORTS = 4096
"""Reports of validated inputs in memory; one that was dropped costs one more reading of the source."""
LONGEST_NAME = 200


def provider_name(file_uid: str, route: str, shard: int) -> str:
    """The provider's name for a copy: it says which file, deployment and shard, so that a lost copy is found."""
    name = f"llmbatch-{file_uid}.{route.replace('/', '.')}.{shard}.jsonl"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(route.encode()).hexdigest()[:32]
    return f"llmbatch-{file_uid}.{digest}.{shard}.jsonl"


class Inputs:
    """Reads sources, and remembers what validation found of them."""

    def __init__(self, source_of: Callable[[BatchFile], Source]) -> None:
        self._source_of = source_of
        self._reports: OrderedDict[str, InputReport] = OrderedDict()

    def source(self, file: BatchFile) -> Source:
        """The file's source."""
        return self._source_of(file)

    async def report(self, file: BatchFile, *, max_requests: int, max_bytes: int) -> InputReport:
        """What the input is. Raises StorageError, CredentialsError, and SourceChanged where it is no longer what
        was validated."""
        uid = file.metadata.uid
        if uid not in self._reports:
            check = InputCheck(file.spec.target_model_names, max_requests, max_bytes)
            async for chunk in self.source(file).chunks():
                check.feed(chunk)
                await asyncio.sleep(0)
            report = check.finish()
            if file.status.sha256 is not None and report.sha256 != file.status.sha256:
                raise SourceChanged("the source changed after it was validated")
            self._reports[uid] = report
            if len(self._reports) > KEPT_REPORTS:
                self._reports.popitem(last=False)
        self._reports.move_to_end(uid)
        return self._reports[uid]

    def forget(self, uid: str) -> None:
        """The file is gone."""
        self._reports.pop(uid, None)


class Uploads:
    """The uploads under way. They outlive a reconcile, so that a slow deployment holds up nobody."""

    def __init__(self, accounts: Accounts, inputs: Inputs, queue: WorkQueue, clock: Clock, *, at_once: int) -> None:
        self._accounts = accounts
        self._inputs = inputs
        self._queue = queue
        self._clock = clock
        self._limit = asyncio.Semaphore(at_once)
        self._tasks: dict[tuple[str, str], asyncio.Task[FileDeployment]] = {}
        self._may_exist: set[tuple[str, str]] = set()

    def under_way(self, file: BatchFile) -> list[str]:
        """Deployments that the file is being uploaded to, or whose result was not taken yet."""
        return [route for uid, route in self._tasks if uid == file.metadata.uid]

    def start(
        self, file: BatchFile, deployment: ModelDeployment, target: lifecycle.Target, *, look_first: bool
    ) -> None:
        """Begin an upload. ``look_first`` where a crash or a lost answer may have left a copy there already."""
        where = (file.metadata.uid, target.route)
        look = look_first or where in self._may_exist
        task = asyncio.create_task(self._upload(file, deployment, target, look_first=look), name="upload")
        self._tasks[where] = task
        key = key_of(file)
        task.add_done_callback(lambda _: self._queue.add(key))

    async def results(self, file: BatchFile, *, patience: float) -> dict[str, FileDeployment]:
        """Take the results that are there, after waiting a moment for those that will be there soon.

        Raises SourceChanged where an upload found other content.
        """
        mine = {route: task for (uid, route), task in self._tasks.items() if uid == file.metadata.uid}
        if mine:
            await asyncio.wait(mine.values(), timeout=patience)
        ended = {route: task for route, task in mine.items() if task.done()}
        for route in ended:
            del self._tasks[(file.metadata.uid, route)]
        return {route: task.result() for route, task in ended.items()}

    async def abandon(self, file: BatchFile) -> None:
        """The file is being deleted: end its uploads."""
        for where in [where for where in self._tasks if where[0] == file.metadata.uid]:
            task = self._tasks.pop(where)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, LLMBatchError):
                await task
            self._may_exist.add(where)

    async def close(self) -> None:
        """The process ends."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def settled(self, file: BatchFile, route: str) -> None:
        """Nothing of the file is left on a deployment."""
        self._may_exist.discard((file.metadata.uid, route))

    def may_exist(self, file: BatchFile, route: str) -> bool:
        """Whether a copy may be there that no id is known of."""
        return (file.metadata.uid, route) in self._may_exist

    async def _upload(
        self, file: BatchFile, deployment: ModelDeployment, target: lifecycle.Target, *, look_first: bool
    ) -> FileDeployment:
        where = (file.metadata.uid, target.route)
        before = next((entry for entry in file.status.deployments if lifecycle.route_of(entry) == target.route), None)
        async with self._limit:
            try:
                remote = await self._accounts.call(
                    deployment, lambda provider: self._copy(file, deployment, target, provider, look_first=look_first)
                )
            except SourceChanged:
                raise
            except LLMBatchError as error:
                if isinstance(error, ProviderError) and not error.certain:
                    self._may_exist.add(where)
                logger.warning("upload of %s to %s failed: %s", key_of(file), target.route, error.message)
                again = error.retryable or isinstance(error, NotFound)
                return lifecycle.failed(target, before, error.reason, error.message, self._clock.now(), retry=again)
        self._may_exist.discard(where)
        return lifecycle.uploaded(target, remote, file.status.requests or 0, self._clock.now())

    async def _copy(
        self,
        file: BatchFile,
        deployment: ModelDeployment,
        target: lifecycle.Target,
        provider: BatchProvider,
        *,
        look_first: bool,
    ) -> RemoteFile:
        name = provider_name(file.metadata.uid, target.route, 0)
        if look_first and (found := await self._adopt(provider, name, file, target)):
            return found
        translation = Translation(target_of(deployment.spec).model, provider.capabilities.url_prefix)
        ttl = duration(file.spec.provider_file_ttl)
        lines = self._lines(file, translation)
        return await provider.upload(lines, name=name, ttl=ttl, size=target.size)

    async def _adopt(
        self, provider: BatchProvider, name: str, file: BatchFile, target: lifecycle.Target
    ) -> RemoteFile | None:
        """The copy to keep of all that bear the name; the others, and those that are no good, are deleted."""
        known = next((entry for entry in file.status.deployments if lifecycle.route_of(entry) == target.route), None)
        replaced = {copy.file_id for copy in known.files} if known else set()
        found = [copy for copy in await provider.find_files(name) if copy.id not in replaced]
        usable = [copy for copy in found if self._is_usable(copy, target)]
        kept = max(usable, key=_preference, default=None)
        for copy in found:
            if kept is None or copy.id != kept.id:
                await provider.delete_file(copy.id)
        return kept

    def _is_usable(self, copy: RemoteFile, target: lifecycle.Target) -> bool:
        lasts = copy.expires_at is None or copy.expires_at - self._clock.now() >= lifecycle.LEFT_AT_LEAST
        # A cut upload may be kept as a shorter file by a provider that does not check.
        return copy.state is not FileState.ERROR and lasts and copy.bytes in (0, target.size)

    async def _lines(self, file: BatchFile, translation: Translation) -> AsyncIterator[bytes]:
        async for chunk in self._inputs.source(file).chunks():
            if made := translation.feed(chunk):
                yield made
        last = translation.finish()
        if translation.sha256 != file.status.sha256:
            raise SourceChanged("the source changed after it was validated")
        if last:
            yield last

    async def check(self, deployment: ModelDeployment, entry: FileDeployment, now: datetime) -> FileDeployment:
        """The entry after asking the provider whether it has processed the copy."""
        copy = entry.files[0]
        assert copy.file_id is not None
        file_id = copy.file_id
        try:
            remote = await self._accounts.call(deployment, lambda provider: provider.get_file(file_id))
        except NotFound:
            return entry.model_copy(update={"state": CopyState.PENDING, "files": []})
        except LLMBatchError:
            return entry
        return processed(entry, copy, remote)

    async def delete(self, file: BatchFile, deployment: ModelDeployment, entry: FileDeployment | None) -> None:
        """Delete the copies on a deployment. Raises ProviderError, CredentialsError."""
        route = f"{deployment.metadata.namespace}/{deployment.metadata.name}"
        ids = [copy.file_id for copy in entry.files if copy.file_id] if entry else []
        if not ids or self.may_exist(file, route):
            name = provider_name(file.metadata.uid, route, 0)
            found = await self._accounts.call(
                deployment, lambda provider: provider.find_files(name), cleaning_up=True
            )  # fmt: skip
            ids += [copy.id for copy in found if copy.id not in ids]
        for file_id in ids:
            await self._accounts.call(
                deployment, lambda provider, id_=file_id: provider.delete_file(id_), cleaning_up=True
            )
        self.settled(file, route)


def processed(entry: FileDeployment, copy: ProviderFile, remote: RemoteFile) -> FileDeployment:
    """The entry with what the provider tells of its copy."""
    if remote.state is FileState.PROCESSING:
        return entry
    if remote.state is FileState.ERROR:
        return entry.model_copy(
            update={
                "state": CopyState.FAILED,
                "reason": Reason.UPLOAD_FAILED.value,
                "error": "the provider could not process the file; mend the lines under a new name",
                "files": [copy.model_copy(update={"state": CopyState.FAILED})],
            }
        )
    good = copy.model_copy(update={"state": CopyState.PROCESSED, "expiry_time": remote.expires_at or copy.expiry_time})
    return entry.model_copy(update={"state": CopyState.PROCESSED, "files": [good]})


def _preference(copy: RemoteFile) -> tuple[bool, float]:
    age = copy.created_at.timestamp() if copy.created_at else 0.0
    return (copy.state is FileState.PROCESSED, age)


def largest(deployments: Sequence[ModelDeployment]) -> tuple[int, int]:
    """The most requests and bytes that any of these deployments takes; OpenAI's own limits where there is none."""
    limits = [limits_of(deployment) for deployment in deployments] or [(50_000, 200_000_000)]
    return max(limit[0] for limit in limits), max(limit[1] for limit in limits)


def limits_of(deployment: ModelDeployment) -> tuple[int, int]:
    """The most requests and bytes in a file of this deployment; its own limits can only be below the provider's."""

    capabilities, limits = target_of(deployment.spec).capabilities, deployment.spec.limits
    requests = min(
        capabilities.max_requests_per_file, limits.max_requests_per_file or capabilities.max_requests_per_file
    )
    size = capabilities.max_file_bytes
    if limits.max_file_bytes is not None:
        size = min(size, quantity(limits.max_file_bytes))
    return requests, size
