"""Quantities and durations as Kubernetes writes them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from llmbatch.domain.quantity import duration, quantity


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (5, 5), ("0", 0), ("1k", 1000), ("200M", 200_000_000), ("200Mi", 209_715_200), ("1.5Gi", 1_610_612_736),
        ("0.5k", 500), ("1Ei", 1024**6),
    ],
)  # fmt: skip
def test_a_quantity_is_a_number_of_units(text, wanted):
    """Decimal and binary suffixes, with fractions."""
    assert quantity(text) == wanted


@pytest.mark.parametrize("text", ["", "Mi", "-1", "1 Mi", "1mi", "1KB", "1e3", "0x10", "1.", "１"])
def test_what_is_no_quantity_is_refused(text):
    """Nothing is guessed, and the text is not repeated."""
    with pytest.raises(ValueError, match="not a quantity"):
        quantity(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("720h", timedelta(days=30)),
        ("1h30m", timedelta(minutes=90)),
        ("90m", timedelta(minutes=90)),
        ("1h1s", timedelta(seconds=3601)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration_is_a_length_of_time(text, wanted):
    """Hours, minutes and seconds, each of which may be left out."""
    assert duration(text) == wanted


@pytest.mark.parametrize("text", ["", "1", "1d", "1m1h", "-1h", "1.5h", " 1h"])
def test_what_is_no_duration_is_refused(text):
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="not a duration"):
        duration(text)
