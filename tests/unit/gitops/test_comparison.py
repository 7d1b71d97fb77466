"""The comparison that tests of synced resources rely on sees what Argo CD would show as a difference."""

from __future__ import annotations

from typing import Any

import pytest

from support.argocd import predicted
from support.cluster import Object


def a_job(annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    """A job in Git."""
    metadata = {"name": "run", "namespace": "team"} | ({"annotations": annotations} if annotations else {})
    return {"kind": "BatchJob", "metadata": metadata, "spec": spec}


APPLIED = a_job(suspend=True)
LIVE: Object = {
    "kind": "BatchJob",
    "metadata": {"name": "run", "namespace": "team", "uid": "1", "annotations": {"llmbatch.dev/batch-id": "batch_1"}},
    "spec": {"suspend": True, "backoffLimit": 3},
    "status": {"phase": "Succeeded"},
}


def test_what_others_added_is_no_difference():
    """Defaults, annotations and the status of the live object stay."""
    assert predicted(LIVE, APPLIED, APPLIED) == LIVE


@pytest.mark.parametrize(
    ("applied", "last"),
    [
        (a_job(suspend=False), APPLIED),
        (a_job(suspend=True, cancel=True), APPLIED),
        (a_job({"team": "search"}, suspend=True), APPLIED),
        (a_job(), APPLIED),
        (APPLIED, a_job({"llmbatch.dev/batch-id": "batch_1"}, suspend=True)),
    ],
    ids=["changed", "added", "annotated", "removed", "annotation removed"],
)
def test_what_git_says_otherwise_is_a_difference(applied: Object, last: Object):
    """Another value, one more, and one that was applied before and is not any more."""
    assert predicted(LIVE, applied, last) != LIVE
