"""What metrics show of the resources that the operator knows."""

from __future__ import annotations

from typing import Any

from llmbatch.api import BatchFile, BatchJob, ModelDeployment
from llmbatch.api.batchjob import Phase
from llmbatch.app.exposition import show_index
from llmbatch.observability.metrics import Metrics
from llmbatch.reconcile.index.index import Index, key_of
from support.virtual_time import VirtualClock

NOON, ONE = "2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z"
TWO = VirtualClock().now().replace(month=3, hour=14)


class Shown:
    """An index, and the metrics that are read from it at two o'clock."""

    def __init__(self) -> None:
        self.index = Index()
        self.metrics = Metrics()
        self.clock = VirtualClock(TWO)
        show_index(self.metrics, self.index, self.clock)

    def job(self, name: str, phase: Phase, *, since: str = NOON, reason: str = "", version: int = 1) -> BatchJob:
        """A job that came into its phase then."""
        status = {"phase": phase, "phaseTime": since, "conditions": [a_condition("Reconciling", reason)] * bool(reason)}
        job = BatchJob.model_validate(a_body(name, {"inputFileRef": {"name": "questions"}}, status, version))
        self.index.put(job)
        return job

    def samples(self, metric: str) -> dict[str, float]:
        """The samples of one metric by the values of their labels."""
        lines = self.metrics.text(self.metrics.readings()).decode().splitlines()
        found = (line.rsplit(" ", 1) for line in lines if line.startswith(f"{metric}{{"))
        return {"|".join(name.split('"')[1::2]): float(value) for name, value in found}


def a_body(name: str, spec: dict[str, Any], status: dict[str, Any], version: int = 1) -> dict[str, Any]:
    """A resource as the API server writes it."""
    metadata = {"name": name, "namespace": "team", "uid": name, "resourceVersion": str(version)}
    return {"metadata": {**metadata, "creationTimestamp": NOON}, "spec": spec, "status": status}


def a_condition(type_: str, reason: str, status: str = "True") -> dict[str, str]:
    return {"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": NOON}


def a_deployment(name: str, *conditions: dict[str, str]) -> ModelDeployment:
    auth = {"secretKeyRef": {"name": "openai", "key": "api-key"}}
    spec = {"modelName": "gpt", "openAI": {"model": "gpt-4o-mini", "auth": auth}}
    return ModelDeployment.model_validate(a_body(name, spec, {"conditions": list(conditions)}))


def a_file(name: str, *, valid: bool | None = None, states: tuple[str, ...] = ()) -> BatchFile:
    validated = [a_condition("Validated", "Valid", "True" if valid else "False")] * (valid is not None)
    copies = [
        {
            "namespace": "team", "name": f"d{at}", "modelName": "gpt", "state": state,
            "files": [{"shard": 0, "fileID": f"file-{at}", "state": state}],
        }
        for at, state in enumerate(states)
    ]  # fmt: skip
    spec = {"targetModelNames": ["gpt"], "source": {"inline": "{}"}}
    return BatchFile.model_validate(a_body(name, spec, {"conditions": validated, "deployments": copies}))


def test_jobs_are_shown_by_phase_and_a_phase_that_is_left_is_zero():
    """The gauge follows the index down as well as up."""
    shown = Shown()
    shown.job("one", Phase.PENDING)
    shown.job("two", Phase.PENDING)
    shown.job("one", Phase.IN_PROGRESS, version=2)

    found = shown.samples("llmbatch_jobs")

    assert found == {phase.value: 0 for phase in Phase} | {"Pending": 1, "InProgress": 1}


def test_unfinished_jobs_are_shown_by_why_they_wait():
    """A reason that changes is shown at once, though nobody else is concerned by it."""
    shown = Shown()
    shown.job("one", Phase.PENDING, reason="InputFileNotFound")
    shown.job("two", Phase.PENDING, reason="NoHeadroom")
    shown.job("done", Phase.FAILED, reason="NoHeadroom")
    assert shown.index.put(shown.job("one", Phase.PENDING, reason="NoHeadroom", version=2)) == set()

    assert shown.samples("llmbatch_jobs_unfinished") == {"NoHeadroom": 2}


def test_the_oldest_unfinished_job_of_each_phase_is_shown_by_its_age():
    """Since it came into the phase; zero where there is none, and finished jobs do not count."""
    shown = Shown()
    shown.job("one", Phase.IN_PROGRESS, since=ONE)
    shown.job("two", Phase.IN_PROGRESS, since=NOON)
    shown.job("done", Phase.SUCCEEDED, since=NOON)

    found = shown.samples("llmbatch_oldest_job_seconds")

    assert found == {phase.value: 0 for phase in Phase if not phase.finished} | {"InProgress": 7200}


def test_a_job_that_nobody_has_looked_at_is_as_old_as_it_is():
    """Without a status its age counts from its creation."""
    shown = Shown()
    shown.index.put(BatchJob.model_validate(a_body("new", {"inputFileRef": {"name": "questions"}}, {})))

    assert shown.samples("llmbatch_oldest_job_seconds")["Pending"] == 7200


def test_files_are_shown_by_how_far_they_are():
    """Uploaded is a file that every deployment with an entry holds."""
    shown = Shown()
    shown.index.put(a_file("new"))
    shown.index.put(a_file("bad", valid=False))
    shown.index.put(a_file("nowhere", valid=True))
    shown.index.put(a_file("partly", valid=True, states=("Processed", "Uploading")))
    shown.index.put(a_file("everywhere", valid=True, states=("Processed", "Processed")))

    assert shown.samples("llmbatch_files") == {"Validating": 1, "Invalid": 1, "Uploading": 2, "Uploaded": 1}


def test_what_is_gone_counts_no_more():
    """Of a job and a file that were deleted nothing is left, and a file that went on counts once."""
    shown = Shown()
    job, file = shown.job("one", Phase.PENDING, reason="NoHeadroom"), a_file("questions", valid=True)
    shown.index.put(a_file("questions"))
    shown.index.put(file)
    shown.index.remove(key_of(job))
    assert shown.samples("llmbatch_files") == {"Validating": 0, "Invalid": 0, "Uploading": 1, "Uploaded": 0}
    shown.index.remove(key_of(file))

    for metric in ("llmbatch_jobs", "llmbatch_jobs_unfinished", "llmbatch_oldest_job_seconds", "llmbatch_files"):
        assert set(shown.samples(metric).values()) <= {0.0}


def test_deployments_are_shown_with_the_reason_until_they_are_gone():
    """Ready is 1; all else, also what was not asked yet, is 0."""
    shown = Shown()
    shown.index.put(a_deployment("east", a_condition("Ready", "Ready")))
    west = a_deployment("west", a_condition("Ready", "Unauthorized", "False"))
    shown.index.put(west)
    shown.index.put(a_deployment("new"))
    assert shown.samples("llmbatch_deployment_ready") == {
        "team/east|gpt|Ready": 1, "team/west|gpt|Unauthorized": 0, "team/new|gpt|Probing": 0,
    }  # fmt: skip

    shown.index.remove(next(key for key in shown.index.deployments if key.name == "west"))

    assert shown.samples("llmbatch_deployment_active_batches") == {"team/east|gpt": 0, "team/new|gpt": 0}
    assert shown.samples("llmbatch_deployment_ready").keys() == {"team/east|gpt|Ready", "team/new|gpt|Probing"}


def test_results_of_a_deployment_begin_at_zero():
    """Its counters are there before its first job ends, from the first time that anybody looks."""
    shown = Shown()
    shown.index.put(a_deployment("east"))

    assert shown.samples("llmbatch_cost_usd_total") == {"team/east|gpt": 0}
    assert shown.samples("llmbatch_jobs_finished_total")["gpt|Completed"] == 0
    assert shown.samples("llmbatch_jobs_finished_total")["other|InputFileInvalid"] == 0


async def test_results_of_a_deployment_that_went_end_an_hour_later():
    """Otherwise each model that was ever there would be scraped for as long as the process lives."""
    shown = Shown()
    shown.index.put(a_deployment("east"))
    shown.samples("llmbatch_jobs")
    shown.index.remove(key_of(a_deployment("east")))
    shown.samples("llmbatch_jobs")
    await shown.clock.advance(3599)
    assert shown.samples("llmbatch_cost_usd_total") == {"team/east|gpt": 0}
    await shown.clock.advance(1)

    assert shown.samples("llmbatch_cost_usd_total") == {}
    assert {name.split("|")[0] for name in shown.samples("llmbatch_jobs_finished_total")} == {"other"}
