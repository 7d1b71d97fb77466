"""The output and error files of a batch, written in one pass over its input."""

from __future__ import annotations

import mmap
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import orjson

from llmbatch.emulator.openai.objects import Outcome
from llmbatch.emulator.openai.processing.answers import Model, answer, missing_parameter, refused
from llmbatch.emulator.openai.processing.oddities import Oddity, odd
from llmbatch.emulator.openai.processing.validation import Body, Line

CutShort = Literal["batch_expired", "batch_cancelled"]
MESSAGES: dict[CutShort, str] = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
}


@dataclass(frozen=True)
class Run:
    """How a batch's requests turn out. `done` is how many are processed, None for all; the rest is `cut_short`."""

    batch_id: str
    model: Model
    created: int
    done: int | None = None
    cut_short: CutShort = "batch_cancelled"
    fail_fraction: float = 0.0
    fail_ids: frozenset[str] = field(default_factory=frozenset)
    fail_style: Literal["response", "error"] = "response"
    odd_lines: Mapping[str, Oddity] = field(default_factory=dict)
    failures_in_output: bool = False
    shuffled: bool = True
    seed: int = 0

    def fails(self, custom_id: str, position: int) -> bool:
        """Whether this request fails; a fraction is spread evenly over those processed."""
        share = self.fail_fraction
        return custom_id in self.fail_ids or int((position + 1) * share + 1e-9) > int(position * share + 1e-9)


def write_results(source: Path, output: Path, errors: Path, run: Run) -> Outcome:
    """Write both files and count; memory grows with the number of lines, not with their length."""
    outcome = Outcome()
    if source.stat().st_size == 0:
        output.touch()
        errors.touch()
        return outcome
    with (
        source.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        output.open("wb") as good,
        errors.open("wb") as bad,
    ):
        lines = msgspec.json.Decoder(Line)
        bodies = msgspec.json.Decoder(Body)
        for position, (start, end) in enumerate(_order(content, run)):
            line = lines.decode(content[start:end])
            if run.done is not None and position >= run.done:
                _write(
                    bad,
                    run,
                    position,
                    line.custom_id,
                    None,
                    {"code": run.cut_short, "message": MESSAGES[run.cut_short]},
                )
                continue
            failures = good if run.failures_in_output else bad
            _process(line, bodies.decode(line.body), run, position, outcome, good, failures)
    return outcome


def _process(line: Line, body: Body, run: Run, position: int, outcome: Outcome, good: BinaryIO, bad: BinaryIO) -> None:
    number = _number(run, position)
    if missing := missing_parameter(body, run.model.kind):
        outcome.failed += 1
        error = {
            "message": f"Missing required parameter: '{missing}'.",
            "type": "invalid_request_error",
            "param": missing,
            "code": "missing_required_parameter",
        }
        _write(bad, run, position, line.custom_id, (400, {"error": error}), None)
    elif run.fails(line.custom_id, position):
        outcome.failed += 1
        if run.fail_style == "error":
            error = {"code": "server_error", "message": "The emulator was asked to fail this request."}
            _write(bad, run, position, line.custom_id, None, error)
        else:
            _write(bad, run, position, line.custom_id, (400, refused(number)), None)
    else:
        outcome.completed += 1
        text, usage = answer(line, body, run.model, created=run.created, number=number)
        outcome.usage.add(usage)
        _write(good, run, position, line.custom_id, (200, text), None)


def _order(content: mmap.mmap, run: Run) -> Iterator[tuple[int, int]]:
    """Where the requests lie in the file, in the order in which they are answered."""
    found: list[tuple[int, int]] = []
    start, size = 0, len(content)
    while start < size:
        end = content.find(b"\n", start)
        end = size if end < 0 else end
        if end > start and content[start:end].strip():
            found.append((start, end))
        start = end + 1
    if run.shuffled:
        random.Random(f"{run.seed} {run.batch_id}").shuffle(found)
    yield from found


def _number(run: Run, position: int) -> str:
    return blake2b(f"{run.batch_id} {position}".encode(), digest_size=12).hexdigest()


def _write(
    file: BinaryIO,
    run: Run,
    position: int,
    custom_id: str,
    response: tuple[int, dict[str, Any]] | None,
    error: dict[str, Any] | None,
) -> None:
    number = _number(run, position)
    line = {
        "id": f"batch_req_{number}",
        "custom_id": custom_id,
        "response": response and {"status_code": response[0], "request_id": number, "body": response[1]},
        "error": error,
    }
    oddity = run.odd_lines.get(custom_id) if response and response[0] < 400 else None
    file.write(odd(line, oddity) if oddity else orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
