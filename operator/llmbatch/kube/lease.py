"""Leader election by a Lease, as client-go's leaderelection does it: of several processes one works."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import orjson

from llmbatch.kube.errors import Conflict, Gone, KubeError
from llmbatch.kube.transport import Api, Target

logger = logging.getLogger(__name__)

LEASES = "coordination.k8s.io/v1"
MICRO_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
RETRY_JITTER = 0.2
END_SECONDS = 2.0
"""What cancelled work may take to end before the run ends without it."""


class LeadershipLost(BaseException):
    """This process is not, or may not be, the leader any more: it must send nothing and end.

    Not an Exception, so that no handler of ordinary failures goes on after it.
    """


class Clock(Protocol):
    """The time an election needs."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class StoredLease:
    """A Lease's spec, with the version that a write must name."""

    version: str
    spec: Mapping[str, Any]


class Leases(Protocol):
    """Keeps the one Lease of an election; writes raise Conflict when somebody else was quicker."""

    async def read(self) -> StoredLease | None: ...
    async def create(self, spec: Mapping[str, Any]) -> StoredLease: ...
    async def replace(self, version: str, spec: Mapping[str, Any]) -> StoredLease: ...


class ApiLeases:
    """The Lease in the API server. ``timeout_seconds`` must be well below the renewal deadline."""

    def __init__(self, api: Api, namespace: str, name: str, *, timeout_seconds: float = 4.0) -> None:
        self._api = api
        self._collection = Target(LEASES, "leases", namespace)
        self._one = Target(LEASES, "leases", namespace, name)
        self._timeout_seconds = timeout_seconds

    async def read(self) -> StoredLease | None:
        """The Lease, if it exists. Raises KubeError."""
        try:
            return await self._call("get", self._one)
        except Gone:
            return None

    async def create(self, spec: Mapping[str, Any]) -> StoredLease:
        """Make it. Raises Conflict, KubeError."""
        return await self._call("create", self._collection, {"name": self._one.name}, spec)

    async def replace(self, version: str, spec: Mapping[str, Any]) -> StoredLease:
        """Write it if nobody has since ``version``. Raises Conflict, KubeError."""
        return await self._call("update", self._one, {"name": self._one.name, "resourceVersion": version}, spec)

    async def _call(
        self, verb: str, target: Target, meta: Mapping[str, str] | None = None, spec: Mapping[str, Any] | None = None
    ) -> StoredLease:
        body = None
        if meta is not None:
            body = orjson.dumps({"apiVersion": LEASES, "kind": "Lease", "metadata": meta, "spec": spec})
        answer = orjson.loads(await self._api.call(verb, target, body=body, timeout_seconds=self._timeout_seconds))
        return StoredLease(answer["metadata"]["resourceVersion"], answer.get("spec") or {})


class Election(Protocol):
    """What the process asks of an election, held or not."""

    @property
    def leading(self) -> bool: ...
    async def run(self, on_started: Callable[[], Awaitable[None] | None]) -> None: ...
    def guard(self) -> None: ...
    async def release(self) -> None: ...


class NoElection:
    """For a process that is known to be alone."""

    leading = True

    async def run(self, on_started: Callable[[], Awaitable[None] | None]) -> None:
        """Start at once, and run until cancelled or until what was started fails."""
        started = on_started()
        if inspect.isawaitable(started):
            await started
        await asyncio.Event().wait()

    def guard(self) -> None:
        """Always allowed."""

    async def release(self) -> None:
        """Nothing to give back."""


class Elector:
    """Takes the Lease when it is free, renews it, and says whether this process may still act.

    Skew between clocks does not matter: a Lease is free when its record has not changed for its own duration by
    *this* process's monotonic clock. All times are in seconds; ``renew_deadline`` must be below ``lease_duration``,
    and the difference is what calls under way have to end in. A standby looks every ``acquire_period``, which is only
    a read, so that it takes over soon.
    """

    def __init__(
        self,
        leases: Leases,
        identity: str,
        clock: Clock,
        *,
        lease_duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry_period: float = 2.0,
        acquire_period: float = 1.0,
        rng: random.Random | None = None,
    ) -> None:
        if not retry_period < renew_deadline < lease_duration:
            raise ValueError("retry_period < renew_deadline < lease_duration must hold")
        self.identity = identity
        self._leases = leases
        self._clock = clock
        self._lease_duration = lease_duration
        self._renew_deadline = renew_deadline
        self._retry_period = retry_period
        self._acquire_period = acquire_period
        self._rng = rng or random.Random()
        self._observed: StoredLease | None = None
        self._observed_at = 0.0
        self._deadline: float | None = None

    @property
    def leading(self) -> bool:
        """Whether this process may write now."""
        return self._deadline is not None and self._clock.monotonic() < self._deadline

    def guard(self) -> None:
        """Call just before every write and every call to a provider. Raises LeadershipLost."""
        if not self.leading:
            raise LeadershipLost(f"{self.identity} does not hold the lease")

    async def run(self, on_started: Callable[[], Awaitable[None] | None]) -> None:
        """Wait for the lease, start, and renew until cancelled.

        What ``on_started`` answers, if it can be awaited, runs beside the renewals: its error ends the run, its end
        does not. Raises LeadershipLost. Cancelling does not give the lease back: see ``release``.
        """
        await self._acquire()
        renewing = asyncio.create_task(self._renew(), name="renew-lease")
        tasks: set[asyncio.Future[None]] = {renewing}
        try:
            started = on_started()
            if inspect.isawaitable(started):
                tasks.add(asyncio.ensure_future(started))
            while tasks:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=END_SECONDS)

    async def release(self) -> None:
        """Give the lease back so that another process need not wait for it to run out; call it when no work is
        under way any more. Failing is well: the lease then runs out."""
        held, self._deadline = self._deadline, None
        if held is None:
            return
        try:
            await self._give_back()
        except KubeError as error:
            logger.warning("lease not released: %s", error)

    async def _give_back(self) -> None:
        # Read first: a renewal that was cancelled on its way may have been done.
        self._observed = stored = await self._leases.read()
        if stored is None or stored.spec.get("holderIdentity") != self.identity:
            return
        moment = self._clock.now().strftime(MICRO_TIME)
        spec = {**stored.spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": moment}
        self._observed = await self._leases.replace(stored.version, spec)
        logger.info("lease released")

    async def _acquire(self) -> None:
        waits = False
        while not await self._try():
            if not waits and self._observed:
                logger.info("%s waits for the lease of %s", self.identity, self._observed.spec.get("holderIdentity"))
                waits = True
            await self._clock.sleep(self._acquire_period * (1 + self._rng.random() * RETRY_JITTER))
        logger.info("%s holds the lease", self.identity)

    async def _renew(self) -> None:
        while self._deadline is not None:
            left = self._deadline - self._clock.monotonic()
            if left <= 0:
                break
            await self._clock.sleep(min(self._retry_period, left))
            if not await self._renewed_in_time():
                break
        self._deadline = None
        raise LeadershipLost(f"{self.identity} could not renew the lease")

    async def _renewed_in_time(self) -> bool:
        """Renew once; False when it is certain or possible that the lease is lost. A call that hangs is left."""
        assert self._deadline is not None
        attempt = asyncio.ensure_future(self._try())
        patience = asyncio.ensure_future(self._clock.sleep(max(0.0, self._deadline - self._clock.monotonic())))
        try:
            await asyncio.wait([attempt, patience], return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done():
                return False
            attempt.result()
            taken = self._observed is not None and self._observed.spec.get("holderIdentity") != self.identity
            return not taken and self.leading
        finally:
            attempt.cancel()
            patience.cancel()

    async def _try(self) -> bool:
        """Take or renew the lease once; whether it is ours now."""
        begun = self._clock.monotonic()
        try:
            if not self._holds_record():
                await self._observe()
                if not self._free():
                    return False
            await self._write()
        except Conflict:
            self._observed_again()
            return False
        except KubeError as error:
            logger.warning("lease: %s", error)
            # Whether a write that got no answer was done is unknown, so the next attempt reads first.
            self._observed_again()
            return False
        # The others count from when they see the record, which is after the call began.
        self._deadline = begun + self._renew_deadline
        return True

    def _holds_record(self) -> bool:
        return (
            self._observed is not None
            and self._observed.version != ""
            and self._observed.spec.get("holderIdentity") == self.identity
        )

    def _observed_again(self) -> None:
        """Forget the version, so that the next attempt reads; keep the record and since when it is known."""
        if self._observed is not None:
            self._observed = StoredLease("", self._observed.spec)

    async def _observe(self) -> None:
        stored = await self._leases.read()
        if stored is None or self._observed is None or stored.spec != self._observed.spec:
            self._observed_at = self._clock.monotonic()
        self._observed = stored

    def _free(self) -> bool:
        if self._observed is None:
            return True
        holder = self._observed.spec.get("holderIdentity") or ""
        duration = float(self._observed.spec.get("leaseDurationSeconds") or self._lease_duration)
        return holder in ("", self.identity) or self._clock.monotonic() >= self._observed_at + duration

    async def _write(self) -> None:
        moment = self._clock.now().strftime(MICRO_TIME)
        before = self._observed.spec if self._observed else {}
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self._lease_duration),
            "acquireTime": before.get("acquireTime", moment),
            "renewTime": moment,
            "leaseTransitions": before.get("leaseTransitions", 0),
        }
        if before.get("holderIdentity") != self.identity:
            spec["acquireTime"] = moment
            spec["leaseTransitions"] += 1 if before else 0
        if self._observed is None:
            self._observed = await self._leases.create(spec)
        else:
            self._observed = await self._leases.replace(self._observed.version, spec)
        self._observed_at = self._clock.monotonic()


def identity_of(environ: Mapping[str, str]) -> str:
    """A holder identity that names the pod and that no other process, or later one of the same pod, has."""
    return f"{environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
