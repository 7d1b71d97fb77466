"""Whose results are read."""

from __future__ import annotations

import pytest

from llmbatch.plugin.outputs.collected import InObject, other_job
from llmbatch.storage.sink import SUMMARY


@pytest.mark.parametrize(
    ("summary", "other"),
    [
        (b'{"uid": "mine", "job": "team/run-1"}', None),
        (b'{"uid": "theirs", "job": "team/run-2"}', "another BatchJob, team/run-2"),
        (b'{"job": "team/run-1"}', None),
        (b"[]", None),
        (b"not json", None),
        (None, None),
    ],
)
async def test_the_results_of_another_job_are_told_by_their_summary(summary: bytes | None, other: str | None):
    """Two jobs may name one prefix of a bucket; a summary that says nothing of it is no reason to refuse."""
    found = InObject("s3://bucket/run", {} if summary is None else {SUMMARY: summary})

    assert await other_job(found, "mine") == other
