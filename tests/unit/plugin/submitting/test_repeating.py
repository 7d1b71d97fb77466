"""A job that is run again is the same job under another name, and takes nothing from the old one."""

from __future__ import annotations

from typing import Any

import pytest

from llmbatch.plugin.submitting.repeating import manifest_of_retry, name_of_retry, why_not
from support.builders import NOW, a_job


@pytest.mark.parametrize(
    ("old", "taken", "new"),
    [
        ("run-1", set(), "run-1-retry-1"),
        ("run-1", {"run-1-retry-1", "run-1-retry-2"}, "run-1-retry-3"),
        ("run-1-retry-1", {"run-1-retry-1"}, "run-1-retry-2"),
        ("a" * 253, set(), "a" * 245 + "-retry-1"),
    ],
)
def test_the_name_has_the_next_suffix_that_is_free(old: str, taken: set[str], new: str):
    """Retries of a job are numbered, also those of a retry, and every name is a valid one."""
    assert name_of_retry(old, taken.__contains__) == new


def retried(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """The retry of a stored job ``run-1``, under the name ``run-1-retry-1``."""
    stored = {"metadata": {"name": "run-1", "namespace": "team", "uid": "1", **metadata}, "spec": spec}
    return manifest_of_retry(stored, "run-1-retry-1")


def test_the_spec_is_kept_but_for_what_was_about_that_one_run():
    """A cancel or a suspension is not repeated; fields of a newer version are kept."""
    spec = {"inputFileRef": {"name": "questions"}, "cancel": True, "suspend": True, "later": {"a": 1}}

    assert retried(spec)["spec"] == {"inputFileRef": {"name": "questions"}, "later": {"a": 1}}


def test_what_marks_the_old_object_is_left_behind():
    """The operator's ids and the marks of GitOps tools would make the new job something that it is not."""
    made = retried(
        {"inputFileRef": {"name": "questions"}},
        annotations={"llmbatch.dev/batch-id": "batch_1", "argocd.argoproj.io/tracking-id": "app:x"},
        labels={
            "team": "search", "app.kubernetes.io/instance": "app", "argocd.argoproj.io/instance": "app",
            "kustomize.toolkit.fluxcd.io/name": "app", "helm.sh/chart": "x", "app.kubernetes.io/name": "kept",
        },
        ownerReferences=[{"name": "somebody"}], finalizers=["llmbatch.dev/finalizer"],
    )  # fmt: skip

    assert made["metadata"] == {
        "name": "run-1-retry-1",
        "namespace": "team",
        "labels": {"team": "search", "app.kubernetes.io/name": "kept"},
        "annotations": {"llmbatch.dev/retry-of": "run-1"},
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"configMap": {"name": "run-1-output"}}, {"configMap": {"name": "run-1-retry-1-output"}}),
        ({"configMap": {"name": "run-1"}}, {"configMap": {"name": "run-1-retry-1"}}),
        ({"secret": {"name": "answers", "retain": False}}, {"secret": {"name": "answers-retry-1", "retain": False}}),
        ({"configMap": {"name": "run-10"}}, {"configMap": {"name": "run-10-retry-1"}}),
        ({"url": "s3://bucket/results/run-1"}, {"url": "s3://bucket/results/run-1-retry-1"}),
        ({"url": "s3://bucket/results/"}, {"url": "s3://bucket/results/run-1-retry-1"}),
        ({"url": "s3://run-1/results"}, {"url": "s3://run-1/results/run-1-retry-1"}),
    ],
)
def test_results_go_beside_the_old_ones(before: dict[str, Any], after: dict[str, Any]):
    """An output that belongs to the old job would be a conflict, and one in a bucket would be written over."""
    assert retried({"inputFileRef": {"name": "questions"}, "output": before})["spec"]["output"] == after


def ended(phase: str, reason: str) -> Any:
    """A job that has failed."""
    told = {"type": "Failed", "status": "True", "reason": reason, "message": "so it was", "lastTransitionTime": NOW}
    return a_job().finished(phase).with_status(conditions=[told]).build()


@pytest.mark.parametrize(
    ("phase", "reason"), [("Failed", "BatchFailed"), ("Expired", "Expired"), ("Cancelled", "Cancelled")]
)
def test_a_job_that_ended_may_be_run_again(phase: str, reason: str):
    """Whatever was the provider's fault, or the user's wish, may go better the next time."""
    assert why_not(ended(phase, reason)) is None
    assert why_not(a_job().finished("Succeeded").build()) is None


def test_a_job_that_runs_is_not_run_again():
    """The refusal says how far it is and what to do."""
    counts = {"total": 9, "completed": 4, "failed": 0}

    assert why_not(a_job().with_status(phase="InProgress", requestCounts=counts).build()) == (
        "has not ended (InProgress, 4 of 9 requests are answered); wait for it, or end it first: "
        "kubectl llmbatch cancel run-1"
    )


def test_a_job_that_would_fail_again_is_not_run_again():
    """An invalid file stays invalid; the refusal says why it failed."""
    assert "InputFileInvalid: so it was" in (why_not(ended("Failed", "InputFileInvalid")) or "")
