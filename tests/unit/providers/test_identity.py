"""An answer is about what was asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx2
import pytest

from llmbatch.domain.errors import BadAnswer
from llmbatch.providers.files_and_batches import FilesAndBatches
from support.providers import a_batch, a_provider

FILE = {"id": "another", "filename": "x.jsonl", "purpose": "batch", "status": "processed", "bytes": 1, "created_at": 1}


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda batches: batches.get_batch("batch_asked"), {**a_batch(), "id": "another"}),
        (lambda batches: batches.cancel_batch("batch_asked"), {**a_batch(), "id": "another"}),
        (lambda batches: batches.get_file("file-asked"), FILE),
    ],
    ids=["a batch", "a cancel", "a file"],
)
async def test_an_answer_about_another_object_is_refused(
    ask: Callable[[FilesAndBatches], Awaitable[object]], answer: dict[str, object]
):
    """Somebody's endpoint could otherwise have its own batch taken for one that it was only asked about."""
    made = a_provider(httpx2.Response(200, json=answer))

    with pytest.raises(BadAnswer, match="another object"):
        await ask(made.batches)
