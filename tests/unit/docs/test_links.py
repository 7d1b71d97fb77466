"""Every link of the documentation leads somewhere, to a page as well as to a part of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = [*TOP, *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))]
LINK = re.compile(r"\]\(([^()\s]+)\)")
FENCED = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")
RESERVED = ("example.com", "example.org", "localhost")


def prose(path: Path) -> str:
    """A page without its blocks of code, in which nothing is a link or a heading."""
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def links(page: str) -> list[str]:
    """Where a page's links lead, as they are written."""
    return LINK.findall(CODE.sub("", prose(ROOT / page)))


def anchors(path: Path) -> Iterator[str]:
    """What a page's headings are linked by, where Markdown is shown as it is: later ones of a name are numbered."""
    seen = Counter[str]()
    for heading in HEADING.findall(prose(path)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        yield slug if not seen[slug] else f"{slug}-{seen[slug]}"
        seen[slug] += 1


@pytest.mark.parametrize("page", PAGES)
def test_links_inside_of_the_repository_find_their_file_and_heading(page: str):
    """A reader who follows a link comes to the very part that it speaks of."""
    lost = []
    for link in links(page):
        if ELSEWHERE.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)

    assert lost == []


@pytest.mark.parametrize("page", PAGES)
def test_links_to_other_hosts_are_whole_public_addresses(page: str):
    """What cannot be followed here, without a network, is at least an address that anybody could follow."""
    told = [urlsplit(link) for link in links(page) if ELSEWHERE.match(link)]
    odd = [url.geturl() for url in told if url.scheme != "https" or "." not in url.netloc or url.port or url.username]

    assert odd == []
    assert [url.geturl() for url in told if (url.hostname or "").endswith(RESERVED)] == []


@pytest.mark.parametrize("page", PAGES)
def test_no_link_counts_on_the_order_of_headings(page: str):
    """A heading that comes twice on a page is linked by a number, which another heading would change."""
    assert [link for link in links(page) if re.search(r"#.*-\d+$", link) and not ELSEWHERE.match(link)] == []
