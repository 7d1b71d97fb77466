"""BatchCalls a batch where it runs: asking for it, and asking for its end."""

from __future__ import annotations

from llmbatch.api import ModelDeployment
from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import LLMBatchError, NotFound
from llmbatch.domain.job.steps import CancelBatch, Poll, Problem
from llmbatch.reconcile.accounts.accounts import Accounts
from llmbatch.reconcile.index.index import Index, deployment_key
from llmbatch.reconcile.jobs.observation import Observation
from llmbatch.reconcile.jobs.run import JobRun

_LAG = "the provider does not know the batch yet"


class BatchCalls:
    """Single calls about a job's batch; what they tell is seen in the run."""

    def __init__(self, accounts: Accounts, index: Index, observation: Observation) -> None:
        self._accounts = accounts
        self._index = index
        self._observation = observation

    async def poll(self, run: JobRun, step: Poll) -> bool | None:
        """Ask for the batch; True where the account must be listed first, which shows it too."""
        deployment = self._deployment(run, step)
        if deployment is None:
            return None
        deleting = run.job.metadata.deletion_timestamp is not None
        try:
            if not deleting and await self._accounts.begins(deployment, run.key):
                return True
            batch = await self._accounts.call(
                deployment, lambda provider: provider.get_batch(step.batch_id), cleaning_up=deleting
            )
        except NotFound:
            self._missed(run, step)
        except LLMBatchError as error:
            run.see(step.shard, problem=Problem(error.reason, error.message))
        else:
            self._accounts.learn(step.deployment, batch)
            self._accounts.follow(step.deployment)
            self._observation.see_batch(run, step.shard, step.deployment, step.batch_id, batch)
        return None

    def _missed(self, run: JobRun, step: Poll | CancelBatch) -> None:
        """A 404 is an answer only when it has been one for long enough."""
        self._accounts.missed(step.deployment, step.batch_id)
        unknown_for = self._accounts.unknown_for(step.deployment, step.batch_id) or 0.0
        lost = self._observation.is_lost(run.job, step.shard, unknown_for)
        run.see(step.shard, unknown=lost, problem=None if lost else Problem(Reason.BATCH_NOT_FOUND, _LAG))

    def _deployment(self, run: JobRun, step: Poll | CancelBatch) -> ModelDeployment | None:
        deployment = self._index.deployments.get(deployment_key(step.deployment))
        if deployment is None:
            message = f"ModelDeployment {step.deployment} does not exist; the batch cannot be followed"
            run.see(step.shard, problem=Problem(Reason.DEPLOYMENT_NOT_FOUND, message))
        return deployment

    async def cancel(self, run: JobRun, step: CancelBatch) -> None:
        """Ask for the batch to be ended."""
        deployment = self._deployment(run, step)
        if deployment is None:
            return
        deleting = run.job.metadata.deletion_timestamp is not None
        try:
            batch = await self._accounts.call(
                deployment, lambda provider: provider.cancel_batch(step.batch_id), cleaning_up=deleting
            )
        except NotFound:
            self._missed(run, step)
        except LLMBatchError as error:
            run.see(step.shard, problem=Problem(error.reason, error.message))
        else:
            self._accounts.learn(step.deployment, batch)
            run.see(step.shard, batch=batch, cancel_accepted=not batch.state.terminal)
