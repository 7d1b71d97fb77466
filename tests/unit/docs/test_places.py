"""The rooms that the pages and the contracts tell of are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "operator" / "llmbatch"
PAGES = sorted(path for path in [ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PLACE = re.compile(r"`((?:[a-z_0-9]+/)+(?:[a-z_0-9]+\.py)?)`")
ROOMS = {path.name for path in PACKAGE.iterdir() if path.is_dir()}


def is_there(place: str) -> bool:
    """Whether a path is one of the package, or of the repository."""
    return any((base / place).exists() for base in (PACKAGE, ROOT, ROOT / "operator"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_places_that_a_page_names_are_there(page: Path):
    """A folder or a module of ours that was moved is moved in the pages, too."""
    told = [place for place in PLACE.findall(page.read_text(encoding="utf-8")) if place.split("/")[0] in ROOMS]

    assert [place for place in told if not is_there(place)] == []


def test_the_architecture_tells_of_every_folder():
    """A stranger finds each folder of the package in the table of the house."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

    assert [room for room in sorted(ROOMS) if room != "__pycache__" and f"`{room}/" not in text] == []


@pytest.mark.parametrize(
    "folder", [path.parent for path in sorted(PACKAGE.rglob("__init__.py"))], ids=lambda path: path.name
)
def test_a_folder_is_one_subject(folder: Path):
    """More than a dozen modules in a folder are several subjects."""
    assert len([path for path in folder.glob("*.py") if not path.name.startswith("__")]) <= 12
