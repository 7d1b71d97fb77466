"""`validate`: the operator's own validation, offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.plugin import invoked
from support.requests import a_body, a_file, a_line


def written(folder: Path, *lines: bytes) -> Path:
    """A file of these lines."""
    file = folder / "requests.jsonl"
    file.write_bytes(a_file(*lines))
    return file


def test_a_valid_file_is_told_in_numbers(tmp_path):
    """Exit code 0, and how many requests there are, for which endpoint and model."""
    file = written(tmp_path, a_line("a"), a_line("b"))

    found = invoked("validate", file, "-o", "json").json

    assert (found["valid"], found["requests"], found["bytes"]) == (True, 2, file.stat().st_size)
    assert (found["endpoint"], found["model"], found["errors"]) == ("/v1/chat/completions", "gpt", [])
    assert invoked("validate", file).out.splitlines()[1].split()[0] == "2"


def test_each_error_has_its_line_key_code_and_advice(tmp_path):
    """Exit code 1, and a row for each thing that is wrong, with the line's number in the file."""
    file = written(tmp_path, a_line("a"), b"", a_line("a"), b"{", a_line("d", method="GET"))

    done = invoked("validate", file, code=1)
    found = invoked("validate", file, "-o", "json", code=1).json

    told = [(error.get("line"), error.get("key"), error["code"]) for error in found["errors"]]
    assert told == [
        (3, "custom_id", "duplicate_custom_id"),
        (4, None, "invalid_json"),
        (5, "method", "invalid_method"),
    ]
    rows = [row.split()[:3] for row in done.out.splitlines()]
    assert rows[1:] == [
        ["3", "custom_id", "duplicate_custom_id"], ["4", "-", "invalid_json"], ["5", "method", "invalid_method"],
    ]  # fmt: skip
    assert "make each unique" in done.out
    assert done.err == f"error: {file}: 3 errors\n"


def test_the_first_errors_are_shown_and_all_of_them_on_request(tmp_path):
    """Twenty are shown and the rest is counted; `--all` shows up to a thousand, where counting ends."""
    file = written(tmp_path, *(b"{" for _ in range(30)))
    endless = tmp_path / "endless.jsonl"
    endless.write_bytes(b"{\n" * 5000)

    first = invoked("validate", file, code=1)
    every = invoked("validate", file, "--all", code=1)
    many = invoked("validate", endless, "--all", "-o", "json", code=1)

    assert (len(first.out.splitlines()), len(every.out.splitlines())) == (21, 31)
    assert "10 of them not shown" in first.err
    assert len(many.json["errors"]) == 1000
    assert "at least 1000 errors" in many.err


@pytest.mark.parametrize(
    ("models", "code"), [((), None), (("gpt",), None), (("gpt", "other"), None), (("other",), "foreign_model")]
)
def test_the_models_of_the_lines_are_checked_where_some_are_named(tmp_path, models, code):
    """Without `--model` any name will do; with it, one of those."""
    file = written(tmp_path, a_line("a"))
    named = [word for model in models for word in ("--model", model)]

    found = invoked("validate", file, "-o", "json", *named, code=1 if code else 0).json

    assert [error["code"] for error in found["errors"]] == ([code] if code else [])


def test_the_lines_must_agree_on_a_model_in_any_case(tmp_path):
    """Two models in one file are wrong, also where none is asked for."""
    file = written(tmp_path, a_line("a", body=a_body("one")), a_line("b", body=a_body("two")))

    found = invoked("validate", file, "-o", "json", code=1).json

    assert [error["code"] for error in found["errors"]] == ["mixed_models"]


def test_standard_input_is_a_file_too():
    """`validate -` reads what is piped in."""
    done = invoked("validate", "-", stdin=b"{", code=1)

    assert done.err == "error: standard input: 1 error\n"


def test_content_is_never_shown(tmp_path):
    """What the lines say stays out of the errors, so that the output can go into a log."""
    file = written(tmp_path, a_line("MARKER", body={"model": 1, "MARKER": "MARKER"}), b"MARKER")

    done = invoked("validate", file, "--all", code=1)

    assert "MARKER" not in done.out + done.err


@pytest.mark.parametrize(("name", "code"), [("nowhere.jsonl", 3), (".", 1)])
def test_what_is_no_file_is_told_by_its_name(tmp_path, name, code):
    """A missing file is not found, and a folder is no file of lines."""
    done = invoked("validate", tmp_path / name, code=code)

    assert str(tmp_path / name) in done.err
    assert len(done.err.splitlines()) == 1


def test_more_than_providers_take_is_worth_a_note(tmp_path):
    """A file over 50,000 requests is valid, and the user is told that it must be split."""
    file = written(tmp_path, *(a_line(str(number)) for number in range(50_001)))

    done = invoked("validate", file)

    assert "at most 50000 requests a file" in done.err


def test_endpoints_are_those_of_openai_unless_told_otherwise(tmp_path):
    """An API that is only compatible takes any endpoint, of any version, and streams."""
    file = tmp_path / "speech.jsonl"
    file.write_bytes(a_file(a_line(url="/v4/audio/speech", body=a_body(stream=True))))

    assert "unsupported_endpoint" in invoked("validate", file, code=1).out
    assert "/v4/audio/speech" in invoked("validate", file, "--compatible").out


def test_more_texts_to_embed_than_a_file_may_have_are_refused(tmp_path):
    """OpenAI counts the texts of all lines together."""
    file = tmp_path / "texts.jsonl"
    file.write_bytes(
        a_file(*(a_line(str(n), url="/v1/embeddings", body=a_body(input=["x"] * 2001)) for n in range(25)))
    )

    assert "too_many_inputs" in invoked("validate", file, code=1).out
    assert invoked("validate", file, "--compatible", "-o", "json").json["valid"]
