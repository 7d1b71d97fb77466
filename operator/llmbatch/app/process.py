"""The operator's process: from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Coroutine

import kopf

from llmbatch.app.exposition import show_index
from llmbatch.app.liveness import Liveness
from llmbatch.app.settings import Settings
from llmbatch.app.watching import Watching
from llmbatch.app.wiring import LEASE_SECONDS, Reconciling
from llmbatch.engine.clock import SystemClock
from llmbatch.engine.queue import WorkQueue
from llmbatch.handlers.informer import Informer
from llmbatch.handlers.login import connection
from llmbatch.kube.client import Kube
from llmbatch.kube.connect import SERVICE_ACCOUNT, access, connect
from llmbatch.kube.errors import Forbidden, KubeError
from llmbatch.kube.lease import ApiLeases, Election, Elector, LeadershipLost, NoElection, identity_of
from llmbatch.observability.http import serve_health, serve_metrics
from llmbatch.observability.lag import watch_loop_lag
from llmbatch.observability.metrics import Metrics
from llmbatch.observability.page import Page
from llmbatch.reconcile.index.index import Index

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 4.0
"""What reconciles under way may take at a clean stop; well within 10 s with all the rest."""


class ConfigurationError(Exception):
    """The operator cannot start like this; the text says what to change."""


class Operator:
    """One process of the operator, from start to stop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.metrics = Metrics()
        self.index = Index(shared_namespaces=settings.shared_deployment_namespace)
        self.queue = WorkQueue(self.clock, observe_wait=self.metrics.waited, max_running=settings.workers)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until a signal. Raises LeadershipLost, ConfigurationError."""
        settings = self.settings
        api = await connect(os.environ, pool_size=2 * settings.workers + 8, observe=self.metrics.kubernetes_request)
        self.api = api
        election = self._election()
        self.kube = Kube(api, election.guard)
        self._show(election)
        liveness = Liveness(api, election, self.clock)
        page = Page(self.metrics.readings, self.metrics.text, self.clock.monotonic)
        metrics = await serve_metrics(settings.metrics_address, page.text)
        health = await serve_health(settings.health_address, live=liveness.live, ready=liveness.ready)
        logger.info("serving metrics on %s, health on %s", metrics.address, health.address)
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stopping.set)
        try:
            await self._work(election, liveness)
        finally:
            await health.close()
            await metrics.close()
            page.close()
            await api.close()

    async def _work(self, election: Election, liveness: Liveness) -> None:
        watching = Watching(
            self.kube, self.index, self.queue, self.clock, namespaces=self.settings.namespace, liveness=liveness
        )
        if not await self._unless_stopped(watching.wait_for_crds()):
            return
        cluster = self.settings.cluster_id or await self._cluster_uid()
        informer = Informer(self._connection, self.settings.namespace, watching.observe, watching.listed.set)
        reconciling = Reconciling(
            self.settings, cluster, self.kube, self.index, self.queue, self.clock, self.metrics, guard=election.guard
        )
        workers = reconciling.workers

        async def lead() -> None:
            await watching.listed.wait()
            _spare_the_collector()
            logger.info("leading, %d resources known", len(self.index.jobs) + len(self.index.files))
            await workers.run()

        tasks = {
            asyncio.create_task(informer.run(self._take_signals), name="informer"),
            asyncio.create_task(watching.keep_right(), name="resync"),
            asyncio.create_task(liveness.watch(), name="liveness"),
            asyncio.create_task(watch_loop_lag(self.clock, self.metrics.lagged), name="loop lag"),
        }
        elected = asyncio.create_task(election.run(lead), name="election")
        stopped = asyncio.create_task(self._stopping.wait(), name="stop")
        try:
            done, _ = await asyncio.wait({*tasks, elected, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task is not stopped:
                    task.result()
                    raise RuntimeError(f"{task.get_name()} ended by itself")
            await workers.stop(DRAIN_SECONDS)
        finally:
            informer.stop()
            for task in (elected, stopped, *tasks):
                task.cancel()
            await reconciling.close()
            await asyncio.wait({elected, *tasks}, timeout=2)
            await election.release()

    async def _connection(self) -> kopf.ConnectionInfo:
        return connection(await access(self.api))

    def _take_signals(self) -> None:
        # kopf takes SIGTERM and SIGINT for itself when it starts; the order of our own stop is ours.
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stopping.set)

    async def _unless_stopped(self, work: Coroutine[None, None, None]) -> bool:
        """Whether the work ended before a signal came."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return False

    def _show(self, election: Election) -> None:
        """Let gauges be read from where the truth is, when they are scraped."""
        self.metrics.leader.set_function(lambda: election.leading)
        # A standby's queue fills up, and nobody is meant to work on it.
        self.metrics.queue_depth.set_function(lambda: self.queue.depth if election.leading else 0)
        self.metrics.queue_oldest.set_function(lambda: self.queue.oldest_age if election.leading else 0)
        show_index(self.metrics, self.index, self.clock)

    def _election(self) -> Election:
        if not self.settings.leader_elect:
            return NoElection()
        namespace = self.settings.lease_namespace or _own_namespace()
        leases = ApiLeases(self.api, namespace, self.settings.lease_name)
        return Elector(leases, identity_of(os.environ), self.clock, lease_duration=LEASE_SECONDS)

    async def _cluster_uid(self) -> str:
        try:
            return await self.kube.cluster_uid()
        except Forbidden as error:
            message = "the namespace kube-system may not be read; set --cluster-id to a name of this cluster"
            raise ConfigurationError(message) from error


def _spare_the_collector() -> None:
    """What has been imported and read stays for good: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _own_namespace() -> str:
    if namespace := os.environ.get("POD_NAMESPACE"):
        return namespace
    try:
        return (SERVICE_ACCOUNT / "namespace").read_text().strip()
    except OSError:
        raise ConfigurationError(
            "outside a pod, set --lease-namespace to where the Lease is to be, or --no-leader-elect"
        ) from None


async def run(settings: Settings) -> int:
    """Run an operator; answers the exit status."""
    try:
        await Operator(settings).run()
    except LeadershipLost as lost:
        logger.error("leadership lost, ending: %s", lost)
        return 1
    except ConfigurationError as error:
        logger.error("%s", error)
        return 2
    except KubeError as error:
        logger.error("cannot start: %s", error.message)
        return 1
    except Exception:
        # Not left to the interpreter: its traceback would quote what an error failed on.
        logger.exception("ended by a mistake of the operator's own")
        return 1
    logger.info("stopped")
    return 0
