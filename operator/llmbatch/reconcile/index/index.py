"""What the operator remembers of the three kinds: small projections, and who must be woken by whose change.

Everything here can be had again from the API server; nothing is kept that a restart would miss.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection, Set
from typing import Any

from llmbatch.api import BatchFile, BatchJob, ModelDeployment
from llmbatch.api.base import Resource
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.conditions import condition, why
from llmbatch.domain.job.record import credible, recorded, shards
from llmbatch.engine.queue import Key
from llmbatch.reconcile.index.by_model import KeysByModel
from llmbatch.reconcile.index.counts import ResourceCounts
from llmbatch.reconcile.index.projections import FileProjection, JobProjection, file_projection

WOKEN_BY_HEADROOM = 4
"""Waiting jobs that are woken when a batch ends: one takes its place, the others only if there is room for more."""

REMEMBERED_REMOVALS = 4096
"""Answers are late by seconds; this many deletions take far longer."""


def key_of(resource: Resource) -> Key:
    """The queue's key of a resource."""
    return Key(resource.KIND, resource.metadata.namespace, resource.metadata.name)


def route_of(deployment: ModelDeployment) -> str:
    """``namespace/name``, as it stands in annotations."""
    return f"{deployment.metadata.namespace}/{deployment.metadata.name}"


def deployment_key(route: str) -> Key:
    """The key of the deployment that a route names."""
    namespace, name = route.split("/", 1)
    return Key(ModelDeployment.KIND, namespace, name)


class Index:
    """All resources of the three kinds that exist, with the newest version seen of each.

    ``shared_namespaces`` are those whose deployments other namespaces may use.
    """

    def __init__(self, *, shared_namespaces: Collection[str] = ()) -> None:
        self.deployments: dict[Key, ModelDeployment] = {}
        self.files: dict[Key, FileProjection] = {}
        self.jobs: dict[Key, JobProjection] = {}
        self.counts = ResourceCounts()
        self._versions: dict[Key, int] = {}
        self._removed: OrderedDict[Key, int] = OrderedDict()
        self._live: dict[str, Key] = {}
        self._jobs_of_file: defaultdict[Key, dict[Key, None]] = defaultdict(dict)
        self._jobs_on_route: defaultdict[str, dict[Key, None]] = defaultdict(dict)
        self._files_on_route: defaultdict[str, dict[Key, None]] = defaultdict(dict)
        self._shared = frozenset(shared_namespaces)
        self._files_by_model = KeysByModel(shared_namespaces)
        self._waiting = KeysByModel(shared_namespaces)
        self._tokens_on_route: Counter[str] = Counter()
        self._reserved: dict[Key, tuple[str, int]] = {}
        self.suspects: dict[tuple[Key, str], str] = {}
        """Copies that a provider no longer seems to have: (file, route) to file id."""

    # --- keeping it right -------------------------------------------------------------------------------------

    def put(self, resource: Resource) -> set[Key]:
        """Take in a version of a resource; answers whom its change concerns. Older versions are passed over."""
        key, version = key_of(resource), _version(resource)
        if not self._is_news(key, version):
            return set()
        self._versions[key] = version
        match resource:
            case ModelDeployment():
                return self._put_deployment(key, resource)
            case BatchFile():
                return self._put_file(key, resource)
            case BatchJob():
                return self._put_job(key, resource)
        raise TypeError(resource.KIND)

    def _is_news(self, key: Key, version: int) -> bool:
        return version >= self._versions.get(key, -1) and version > self._removed.get(key, -1)

    def remove(self, key: Key, version: str = "") -> set[Key]:
        """Forget a resource that is gone; answers whom that concerns.

        ``version`` is that of its end. What was read or written before it may be answered after it: such an answer
        must not bring the resource back.
        """
        ended = int(version) if version.isdecimal() else -1
        if -1 < ended < self._versions.get(key, -1):
            return set()  # the end of an object whose successor was seen already
        last = max(self._versions.pop(key, -1), ended)
        self._removed[key] = last
        self._removed.move_to_end(key)
        if len(self._removed) > REMEMBERED_REMOVALS:
            self._removed.popitem(last=False)
        if (job := self.jobs.pop(key, None)) is not None:
            self.counts.job(job, None)
            self._unlink_job(key, job)
            self._release(key)
            return self._concerned_by_end(key, job)
        if (file := self.files.pop(key, None)) is not None:
            self.counts.file(file, None)
            self._unlink_file(key, file)
            return {*self._jobs_of_file.get(key, ()), *map(deployment_key, file.routes())}
        if (deployment := self.deployments.pop(key, None)) is not None:
            return self._concerned_by_deployment(deployment)
        return set()

    def note(self, key: Key, version: str) -> None:
        """A version of a resource was seen that cannot be read: it counts as known, but as nothing to work with."""
        if version.isdecimal():
            self._versions[key] = max(self._versions.get(key, -1), int(version))

    def version_of(self, key: Key) -> str:
        """The newest resourceVersion seen of a resource; empty where it is not known."""
        version = self._versions.get(key)
        return "" if version is None else str(version)

    def keys(self) -> Set[Key]:
        """All resources that are known."""
        return self._versions.keys()

    def _put_deployment(self, key: Key, deployment: ModelDeployment) -> set[Key]:
        before = self.deployments.get(key)
        self.deployments[key] = deployment
        if before is not None and _routing_facts(before) == _routing_facts(deployment):
            return set()
        woken = self._concerned_by_deployment(deployment)
        if before is not None and before.spec.model_name != deployment.spec.model_name:
            woken |= self._concerned_by_deployment(before)
        return woken

    def _concerned_by_deployment(self, deployment: ModelDeployment) -> set[Key]:
        model, home = deployment.spec.model_name, deployment.metadata.namespace
        return {
            *self._files_by_model.reached(model, home),
            *self._files_on_route.get(route_of(deployment), ()),
            *self._waiting.reached(model, home),
        }

    def _put_file(self, key: Key, file: BatchFile) -> set[Key]:
        before, after = self.files.get(key), file_projection(file)
        if before == after:
            return set()
        self.counts.file(before, after)
        if before is not None:
            self._unlink_file(key, before)
        self.files[key] = after
        self._files_by_model.add(key, after.models)
        for route in after.routes():
            self._files_on_route[route][key] = None
        woken = {job for job in self._jobs_of_file.get(key, ()) if not self.jobs[job].finished}
        if before is not None:
            gone = set(before.routes()) - set(after.routes())
            woken |= set(map(deployment_key, gone))
        return woken

    def _unlink_file(self, key: Key, file: FileProjection) -> None:
        self._files_by_model.drop(key, file.models)
        for route in file.routes():
            _drop(self._files_on_route, route, key)
        for suspect in [suspect for suspect in self.suspects if suspect[0] == key]:
            if self.suspects[suspect] not in [file_id for _, file_id in file.copies]:
                del self.suspects[suspect]

    def put_finished(self, key: Key, version: str, job: JobProjection) -> set[Key]:
        """As ``put``, of a job that has ended and was not read whole."""
        if not self._is_news(key, int(version)):
            return set()
        self._versions[key] = int(version)
        return self._take_job(key, job)

    def _put_job(self, key: Key, job: BatchJob) -> set[Key]:
        return self._take_job(key, self._job_projection(job))

    def _take_job(self, key: Key, after: JobProjection) -> set[Key]:
        before = self.jobs.get(key)
        self.counts.job(before, after)
        if before == after:
            self.jobs[key] = after
            return set()
        if before is not None:
            self._unlink_job(key, before)
        self.jobs[key] = after
        self._live[after.uid] = key
        self._jobs_of_file[after.file][key] = None
        if after.route is not None:
            self._release(key)
        woken = set()
        if after.holds_room:
            if not self._jobs_on_route.get(after.route or ""):
                # From now on it counts for itself, as long as anything runs there.
                woken.add(deployment_key(after.route or ""))
            if before is not None and not before.holds_room:
                # There may be room for more than those that were woken when it became free.
                woken |= {*self._waiting.turn(after.model or "", deployment_key(after.route or "").namespace, 1)}
            self._jobs_on_route[after.route or ""][key] = None
            self._tokens_on_route[after.route or ""] += after.tokens
        elif not after.finished and not after.suspended:
            self._waiting.add(key, [after.model or ""])
        if before is None or (before.finished, before.deleting, before.route) == (
            after.finished,
            after.deleting,
            after.route,
        ):
            return woken
        return woken | self._concerned_by_end(key, before)

    def _job_projection(self, job: BatchJob) -> JobProjection:
        meta, status = job.metadata, job.status
        file = Key(BatchFile.KIND, meta.namespace, job.spec.input_file_ref.name)
        known = self.files.get(file)
        job = self.credible(job)
        record = recorded(job, shards(job)[0])
        model = job.spec.target_model_name or status.model_name
        before = self.jobs.get(key_of(job))
        goes_on = why(status.conditions)
        return JobProjection(
            uid=meta.uid,
            created=meta.creation_timestamp,
            file=file,
            model=model or (known.models[0] if known and known.models else None),
            phase=status.phase,
            deleting=meta.deletion_timestamp is not None,
            suspended=job.spec.suspend,
            # A route alone is only a wish: anybody could take up somebody else's headroom with it.
            route=record.deployment if record.pending or record.batch_id else None,
            batch_id=record.batch_id,
            tokens=before.tokens if before and before.tokens else known.tokens if known else 0,
            since=status.phase_time or meta.creation_timestamp,
            reason=Reason.of(goes_on.reason) if goes_on else None,
        )

    def _unlink_job(self, key: Key, job: JobProjection) -> None:
        if self._live.get(job.uid) == key:
            del self._live[job.uid]
        _drop(self._jobs_of_file, job.file, key)
        self._waiting.drop(key, [job.model or ""])
        if job.holds_room:
            _drop(self._jobs_on_route, job.route or "", key)
            self._tokens_on_route[job.route or ""] -= job.tokens

    def _concerned_by_end(self, key: Key, job: JobProjection) -> set[Key]:
        woken: set[Key] = set()
        if job.route is not None:
            deployment = deployment_key(job.route)
            woken.add(deployment)
            woken |= {*self._waiting.turn(job.model or "", deployment.namespace, WOKEN_BY_HEADROOM)} - {key}
        file = self.files.get(job.file)
        if file is not None and (file.deleting or self._is_going(job.route)):
            woken.add(job.file)
        return woken

    def _is_going(self, route: str | None) -> bool:
        """Whether a deployment is gone or waits for the copies on it."""
        deployment = self.deployments.get(deployment_key(route)) if route else None
        return route is not None and (deployment is None or deployment.metadata.deletion_timestamp is not None)

    # --- headroom ---------------------------------------------------------------------------------------------

    def reserve(self, key: Key, route: str, tokens: int) -> None:
        """Take up headroom for a job whose route is being written."""
        self._release(key)
        self._reserved[key] = (route, tokens)

    def release(self, key: Key) -> None:
        """Give back what was reserved."""
        self._release(key)

    def _release(self, key: Key) -> None:
        self._reserved.pop(key, None)

    def load(self, route: str) -> tuple[int, int]:
        """Unfinished batches on a deployment, and their estimated input tokens, reservations included."""
        reserved = [tokens for other, tokens in self._reserved.values() if other == route]
        active = len(self._jobs_on_route.get(route, ())) + len(reserved)
        return active, self._tokens_on_route[route] + sum(reserved)

    # --- questions --------------------------------------------------------------------------------------------

    def credible(self, job: BatchJob) -> BatchJob:
        """The job without annotations that lead to deployments of other tenants."""
        home = job.metadata.namespace
        return credible(job, lambda route: route.split("/", 1)[0] in (home, *self._shared))

    def is_live(self, job_uid: str) -> bool:
        """Whether a job of this UID exists."""
        return job_uid in self._live

    def is_recorded(self, job_uid: str, batch_id: str) -> bool:
        """Whether a job of this UID exists and needs no other record of a batch: it has it, or has ended."""
        key = self._live.get(job_uid)
        job = self.jobs.get(key) if key else None
        return job is not None and (job.finished or job.batch_id == batch_id)

    def deployments_of(self, models: Collection[str]) -> list[ModelDeployment]:
        """All deployments of some models, by name."""
        found = [deployment for deployment in self.deployments.values() if deployment.spec.model_name in models]
        return sorted(found, key=route_of)

    def serves(self, model: str) -> bool:
        """Whether any deployment is there for a model."""
        return any(deployment.spec.model_name == model for deployment in self.deployments.values())

    def running_on(self, route: str) -> list[tuple[Key, JobProjection]]:
        """Unfinished jobs that are routed to a deployment."""
        return [(key, self.jobs[key]) for key in self._jobs_on_route.get(route, ())]

    def unfinished_jobs_of(self, file: Key) -> list[tuple[Key, JobProjection]]:
        """Jobs that still need a file."""
        jobs = ((key, self.jobs[key]) for key in self._jobs_of_file.get(file, ()))
        return [(key, job) for key, job in jobs if not job.finished]

    def copies_of(self, job: Key) -> set[str]:
        """The ids of all copies of a job's input that are known."""
        view = self.jobs.get(job)
        file = self.files.get(view.file) if view else None
        return {file_id for _, file_id in file.copies if file_id} if file else set()

    def files_on(self, route: str) -> list[Key]:
        """Files with a copy on a deployment."""
        return list(self._files_on_route.get(route, ()))

    def depends_on(self, deployment: ModelDeployment) -> bool:
        """Whether anything would notice if the deployment were not reachable."""
        route = route_of(deployment)
        return bool(
            self._jobs_on_route.get(route)
            or self._waiting.reached(deployment.spec.model_name, deployment.metadata.namespace)
            or any(self.unfinished_jobs_of(file) for file in self._files_on_route.get(route, ()))
        )


def _routing_facts(deployment: ModelDeployment) -> tuple[object, ...]:
    ready = condition(deployment.status.conditions, ConditionType.READY)
    why = (ready.status, ready.reason) if ready else None
    return (deployment.spec, why, deployment.metadata.deletion_timestamp is not None)


def _version(resource: Resource) -> int:
    # Documented as comparable integers for resources stored in etcd since Kubernetes 1.35, and true long before.
    text = resource.metadata.resource_version
    return int(text) if text.isdecimal() else 0


def _drop(table: defaultdict[Any, dict[Key, None]], outer: object, key: Key) -> None:
    if (inner := table.get(outer)) is not None:
        inner.pop(key, None)
        if not inner:
            del table[outer]
