"""An input is read no further than it can still matter."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from llmbatch.api import BatchFile
from llmbatch.domain.errors import SourceChanged
from llmbatch.domain.requests.translation import Translation
from llmbatch.domain.requests.validation import InputLimits
from llmbatch.reconcile.files.inputs import Inputs, translated
from support.requests import a_line

LINE = a_line("a", body={}) + b"\n"


@dataclass
class Chunks:
    """A source that counts what was read of it, and whether it was closed."""

    content: Sequence[bytes]
    read: int = 0
    closed: bool = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            for chunk in self.content:
                self.read += 1
                yield chunk
        finally:
            self.closed = True


def a_file(**status: Any) -> BatchFile:
    return BatchFile.model_validate(
        {
            "metadata": {
                "name": "questions",
                "namespace": "team",
                "uid": "u-1",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"targetModelNames": ["gpt"], "source": {"url": "s3://bucket/key"}},
            "status": status,
        }
    )


@pytest.mark.parametrize("limits", [InputLimits(3, 10_000), InputLimits(99, 300)])
async def test_a_file_that_is_over_its_limits_is_not_read_to_the_end(limits: InputLimits):
    """Whatever follows, it stays refused, and the source can be without end."""
    source = Chunks([a_line(str(n), body={}) + b"\n" for n in range(1000)])

    report = await Inputs(lambda file: source).report(a_file(), limits)

    assert not report.valid
    assert source.read < 10
    assert source.closed


async def test_a_source_that_grew_is_not_read_to_the_end():
    """An upload takes no more bytes than were validated; the last piece is not sent, so that no copy is whole."""
    source = Chunks([LINE] * 1000)
    file = a_file(bytes=2 * len(LINE), sha256=hashlib.sha256(LINE * 2).hexdigest())
    sent: list[bytes] = []

    async def send(lines: AsyncIterator[bytes]) -> None:
        async for line in lines:
            sent.append(line)

    with pytest.raises(SourceChanged):
        await send(translated(source, Translation("gpt", str), file.status))

    assert (source.read, len(sent), source.closed) == (3, 1, True)
