"""The logs."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from llmbatch.domain.errors import OutputConflict
from llmbatch.observability.logs import Format, bound, configure

SECRET = "sk-very-private"
logger = logging.getLogger("llmbatch.tests")


@pytest.fixture
def restored() -> Iterator[None]:
    """Put back what `configure` changes in the process."""
    root = logging.getLogger()
    ours = logging.getLogger("llmbatch")
    before = (root.handlers[:], root.level, ours.level, logging.raiseExceptions)
    yield
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = before
    logging.captureWarnings(capture=False)


@pytest.fixture(params=["json", "text"])
def stream(request: pytest.FixtureRequest, restored: None) -> io.StringIO:
    stream = io.StringIO()
    configure(request.param, stream=stream)
    return stream


@pytest.fixture
def lines(restored: None) -> io.StringIO:
    stream = io.StringIO()
    configure("json", stream=stream)
    return stream


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_tells_time_level_logger_message_and_what_it_is_about(lines: io.StringIO):
    """A job's fields are keys of their own, so that a log store can be asked for them."""
    log = bound(logger, namespace="team", name="run-1", deployment="default/east", batch_id=None)
    log.info("batch %s created", "batch_1", extra={"fields": {"batch_id": "batch_1"}})

    [entry] = parsed(lines)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry.keys() == {
        "level", "logger", "message", "namespace", "name", "deployment", "batch_id",
    }  # fmt: skip
    assert (entry["level"], entry["logger"], entry["message"]) == ("info", "llmbatch.tests", "batch batch_1 created")
    assert (entry["namespace"], entry["name"], entry["deployment"], entry["batch_id"]) == (
        "team", "run-1", "default/east", "batch_1",
    )  # fmt: skip


def test_fields_cannot_forge_what_the_record_is(lines: io.StringIO):
    """A field named as one of the record's own keys is left out."""
    logger.warning("real", extra={"fields": {"level": "debug", "message": "forged", "odd": object()}})

    [entry] = parsed(lines)
    assert (entry["level"], entry["message"], entry["odd"]) == ("warning", "real", "object")


@pytest.mark.parametrize("format_", ["json", "text"])
def test_a_message_with_line_breaks_stays_one_line(restored: None, format_: Format):
    """Whoever can write into a message cannot write a record of their own."""
    stream = io.StringIO()
    configure(format_, stream=stream)
    logger.info("name %s", "a\n2026-01-01T00:00:00Z INFO forged\x1b[2K\r", extra={"fields": {"name": "b\nforged"}})

    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_a_traceback_shows_places_and_types_and_no_content(stream: io.StringIO):
    """What pydantic, a library or a chained error quotes is not printed, nor are source lines and locals."""

    class Strict(BaseModel):
        number: int

    def fail() -> None:
        prompt = SECRET
        try:
            Strict.model_validate({"number": prompt})
        except ValueError:
            raise RuntimeError(f"could not read {prompt}") from KeyError(prompt)

    try:
        fail()
    except RuntimeError:
        logger.exception("reconcile failed")

    shown = stream.getvalue()
    assert SECRET not in shown
    assert "prompt" not in shown
    assert "RuntimeError" in shown
    assert "KeyError" in shown
    assert "at fail (" in shown


def test_our_own_errors_keep_their_words(stream: io.StringIO):
    """They are written to be read."""
    try:
        raise OutputConflict("ConfigMap out exists and is not this job's")
    except OutputConflict:
        logger.exception("collecting failed")

    assert "ConfigMap out exists and is not this job's" in stream.getvalue()


def test_other_peoples_records_are_cut_to_what_is_safe(stream: io.StringIO):
    """A library's warning is seen by its first line, and an exception that it was given by its type."""
    asyncio_logger = logging.getLogger("asyncio")
    asyncio_logger.error("Task exception was never retrieved\nfuture: <Task exception=ValueError('%s')>", SECRET)
    asyncio_logger.warning("call failed: %s", ValueError(SECRET))
    asyncio_logger.info("chatter")

    shown = stream.getvalue()
    assert SECRET not in shown
    assert "Task exception was never retrieved" in shown
    assert "call failed: ValueError" in shown
    assert "chatter" not in shown


def test_a_record_that_cannot_be_formatted_prints_no_arguments(stream: io.StringIO, capsys: pytest.CaptureFixture[str]):
    """A slip in a log call does not put its arguments on standard error."""
    logger.warning("%d requests", SECRET)

    assert "%d requests" in stream.getvalue()
    assert SECRET not in stream.getvalue() + capsys.readouterr().err
