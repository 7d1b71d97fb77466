"""Uploads: each copy of a file on its way to one deployment, beside all others."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from weakref import WeakValueDictionary

from llmbatch.api import BatchFile, ModelDeployment
from llmbatch.api.batchfile import FileDeployment
from llmbatch.api.reasons import Reason
from llmbatch.domain.backoff import UPLOAD
from llmbatch.domain.errors import LLMBatchError, NotFound, ProviderError, SourceChanged
from llmbatch.domain.file import rules as lifecycle
from llmbatch.domain.quantity import duration
from llmbatch.domain.remote import FileState, RemoteFile
from llmbatch.domain.requests.translation import Translation
from llmbatch.engine.clock import Clock
from llmbatch.engine.queue import WorkQueue
from llmbatch.providers.protocol import BatchProvider
from llmbatch.providers.registry import target_of
from llmbatch.reconcile.accounts.accounts import Accounts
from llmbatch.reconcile.files.inputs import Inputs, translated
from llmbatch.reconcile.index.index import key_of, route_of

logger = logging.getLogger(__name__)

LONGEST_NAME = 200
TOO_LARGE_AGAIN = timedelta(days=1)
"""How soon a file is sent again that a provider found too large: only its owner can make the limit higher."""


def provider_name(file_uid: str, route: str, shard: int) -> str:
    """The provider's name for a copy: it says which file, deployment and shard, so that a lost copy is found."""
    name = f"llmbatch-{file_uid}.{route.replace('/', '.')}.{shard}.jsonl"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(route.encode()).hexdigest()[:32]
    return f"llmbatch-{file_uid}.{digest}.{shard}.jsonl"


class Uploads:
    """The uploads under way. They outlive a reconcile, so that a slow deployment holds up nobody."""

    def __init__(self, accounts: Accounts, inputs: Inputs, queue: WorkQueue, clock: Clock, *, at_once: int) -> None:
        self._accounts = accounts
        self._inputs = inputs
        self._queue = queue
        self._clock = clock
        self._at_once = at_once
        self._limits: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._tasks: dict[tuple[str, str], asyncio.Task[FileDeployment]] = {}
        self._awaited: set[str] = set()
        self._may_exist: set[tuple[str, str]] = set()

    def under_way(self, file: BatchFile) -> list[str]:
        """Deployments that the file is being uploaded to or asked about, or whose result was not taken yet."""
        return [route for uid, route in self._tasks if uid == file.metadata.uid]

    def start(
        self,
        file: BatchFile,
        deployment: ModelDeployment,
        target: lifecycle.Target,
        *,
        look_first: bool,
        in_use: Callable[[], bool],
    ) -> None:
        """Begin an upload.

        ``look_first`` where a copy may be there already that no status tells of; ``in_use`` says whether a batch may
        still read one of the copies there, so that none can be deleted.
        """
        where = (file.metadata.uid, target.route)
        if look_first:
            self._may_exist.add(where)
        self._begin(file, target.route, self._upload(file, deployment, target, in_use=in_use))

    def check(self, file: BatchFile, deployment: ModelDeployment, target: lifecycle.Target) -> None:
        """Begin to ask whether the provider has processed the copy."""
        self._begin(file, target.route, self._check(file, deployment, target))

    def _begin(self, file: BatchFile, route: str, work: Coroutine[None, None, FileDeployment]) -> None:
        task = self._tasks[(file.metadata.uid, route)] = asyncio.create_task(work, name="upload")
        key = key_of(file)

        def ended(_: object) -> None:
            if file.metadata.uid not in self._awaited:
                self._queue.add(key)

        task.add_done_callback(ended)

    async def results(self, file: BatchFile, *, patience: float) -> dict[str, FileDeployment]:
        """Take the results that are there, after waiting a moment for those that will be there soon."""
        uid = file.metadata.uid
        mine = {route: task for (owner, route), task in self._tasks.items() if owner == uid}
        if mine:
            self._awaited.add(uid)
            try:
                await asyncio.wait(mine.values(), timeout=patience)
            finally:
                self._awaited.discard(uid)
        ended = {route: task for route, task in mine.items() if task.done()}
        for route in ended:
            del self._tasks[(uid, route)]
        return {route: task.result() for route, task in ended.items()}

    async def abandon(self, file: BatchFile) -> None:
        """The file is being deleted: end its uploads."""
        for where in [where for where in self._tasks if where[0] == file.metadata.uid]:
            task = self._tasks.pop(where)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._may_exist.add(where)

    async def close(self) -> None:
        """The process ends."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget(self, file: BatchFile) -> None:
        """The file is gone."""
        self._may_exist = {where for where in self._may_exist if where[0] != file.metadata.uid}

    def may_exist(self, file: BatchFile, route: str) -> bool:
        """Whether a copy may be there that no id is known of."""
        return (file.metadata.uid, route) in self._may_exist

    async def _upload(
        self, file: BatchFile, deployment: ModelDeployment, target: lifecycle.Target, *, in_use: Callable[[], bool]
    ) -> FileDeployment:
        before = _entry(file, target.route)
        limit = self._limits.setdefault(target.route, asyncio.Semaphore(self._at_once))
        try:
            async with limit:
                remote = await self._accounts.call(
                    deployment, lambda provider: self._copy(file, deployment, target, provider, in_use=in_use)
                )
                await self._replace(file, deployment, before, remote, in_use=in_use)
        except LLMBatchError as error:
            return self._failed(file, target, before, error)
        except Exception:
            logger.exception("upload of %s to %s ended by a mistake of the operator's own", key_of(file), target.route)
            self._may_exist.add((file.metadata.uid, target.route))
            message = "the upload ended by a mistake of the operator's own, see its log"
            return lifecycle.failed(target, before, Reason.UPLOAD_FAILED, message, self._clock.now())
        return lifecycle.uploaded(target, remote, file.status.requests or 0, self._clock.now())

    def _failed(
        self, file: BatchFile, target: lifecycle.Target, before: FileDeployment | None, error: LLMBatchError
    ) -> FileDeployment:
        if isinstance(error, ProviderError) and not error.certain:
            self._may_exist.add((file.metadata.uid, target.route))
        logger.warning("upload of %s to %s failed: %s", key_of(file), target.route, error.message)
        wait = timedelta(seconds=getattr(error, "retry_after", None) or 0.0)
        if isinstance(error, SourceChanged):
            self._inputs.forget(file.metadata.uid)
        elif not error.retryable:
            wait = max(wait, TOO_LARGE_AGAIN if error.reason is Reason.LIMIT_EXCEEDED else UPLOAD.most)
        return lifecycle.failed(target, before, error.reason, error.message, self._clock.now(), wait=wait)

    async def _copy(
        self,
        file: BatchFile,
        deployment: ModelDeployment,
        target: lifecycle.Target,
        provider: BatchProvider,
        *,
        in_use: Callable[[], bool],
    ) -> RemoteFile:
        name = provider_name(file.metadata.uid, target.route, 0)
        look = self.may_exist(file, target.route)
        if look and (found := await self._adopt(provider, name, file, target, in_use=in_use)):
            return found
        model, line_url = target_of(deployment.spec).model, provider.capabilities.line_url
        translation = Translation(model, line_url, max_line_bytes=self._inputs.max_line_bytes)
        ttl = duration(file.spec.provider_file_ttl)
        lines = translated(self._inputs.source(file), translation, file.status)
        return await provider.upload(lines, name=name, ttl=ttl, size=target.size)

    async def _replace(
        self,
        file: BatchFile,
        deployment: ModelDeployment,
        before: FileDeployment | None,
        remote: RemoteFile,
        *,
        in_use: Callable[[], bool],
    ) -> None:
        """Delete the copies that another one took the place of, or leave them to the file's deletion."""
        for file_id in _ids(before) - {remote.id}:
            try:
                if in_use():
                    raise InUse(file_id)
                await self._accounts.call(deployment, lambda provider, id_=file_id: provider.delete_file(id_))
            except LLMBatchError as error:
                logger.info("copy %s of %s is kept for now: %s", file_id, key_of(file), error.message)
                self._may_exist.add((file.metadata.uid, route_of(deployment)))

    async def _adopt(
        self,
        provider: BatchProvider,
        name: str,
        file: BatchFile,
        target: lifecycle.Target,
        *,
        in_use: Callable[[], bool],
    ) -> RemoteFile | None:
        """The copy to keep of all that bear the name; the others, and those that are no good, are deleted, or left to
        the file's deletion while a batch may read one."""
        replaced = _ids(_entry(file, target.route))
        found = [copy for copy in await provider.find_files(name) if copy.id not in replaced]
        usable = [copy for copy in found if self._is_usable(copy, target)]
        kept = max(usable, key=_preference, default=None)
        for copy in found:
            if copy is not kept and not in_use():
                await provider.delete_file(copy.id)
        return kept

    def _is_usable(self, copy: RemoteFile, target: lifecycle.Target) -> bool:
        lasts = lifecycle.lasts(copy.created_at, copy.expires_at, self._clock.now())
        # A cut upload may be kept as a shorter file by a provider that does not check.
        return copy.state is not FileState.ERROR and lasts and copy.bytes in (0, target.size)

    async def _check(self, file: BatchFile, deployment: ModelDeployment, target: lifecycle.Target) -> FileDeployment:
        entry = _entry(file, target.route)
        assert entry is not None
        file_id = entry.files[0].file_id
        assert file_id is not None
        now = self._clock.now()
        try:
            remote = await self._accounts.call(deployment, lambda provider: provider.get_file(file_id))
        except NotFound:
            return lifecycle.failed(target, entry, Reason.UPLOAD_FAILED, "the provider lost the file", now)
        except LLMBatchError as error:
            logger.warning("copy of %s on %s: %s", key_of(file), target.route, error.message)
            return entry
        return lifecycle.checked(target, entry, remote, now)

    async def delete(self, file: BatchFile, deployment: ModelDeployment, *, look_first: bool) -> None:
        """Delete the copies on a deployment; ``look_first`` as for start. Raises ProviderError, CredentialsError."""
        route = route_of(deployment)
        ids = _ids(_entry(file, route))
        if look_first or self.may_exist(file, route):
            name = provider_name(file.metadata.uid, route, 0)
            found = await self._accounts.call(
                deployment, lambda provider: provider.find_files(name), cleaning_up=True
            )  # fmt: skip
            ids |= {copy.id for copy in found}
        for file_id in sorted(ids):
            await self._accounts.call(
                deployment, lambda provider, id_=file_id: provider.delete_file(id_), cleaning_up=True
            )
        self._may_exist.discard((file.metadata.uid, route))


class InUse(LLMBatchError):
    """A batch may still read the copy."""

    def __init__(self, file_id: str) -> None:
        super().__init__(f"a batch may still read {file_id}")


def _entry(file: BatchFile, route: str) -> FileDeployment | None:
    return next((entry for entry in file.status.deployments if lifecycle.route_of(entry) == route), None)


def _ids(entry: FileDeployment | None) -> set[str]:
    return {copy.file_id for copy in entry.files if copy.file_id} if entry else set()


def _preference(copy: RemoteFile) -> tuple[bool, float]:
    age = copy.created_at.timestamp() if copy.created_at else 0.0
    return (copy.state is FileState.PROCESSED, age)
