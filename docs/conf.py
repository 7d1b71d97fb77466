"""How Sphinx builds these pages (`make docs`). They read as well where Markdown is shown as it is."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "operator/llmbatch/__init__.py").read_text(encoding="utf-8"))
assert VERSION

project = "llmbatch-operator"
author = "the llmbatch-operator authors"
release = version = VERSION[1]
language = "en"

extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["alert"]
myst_heading_anchors = 4
"""Anchors as where Markdown is shown as it is, so that a link works in both places."""

html_theme = "furo"
html_title = f"llmbatch-operator {release}"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
html_static_path = ["static"]
html_css_files = ["pages.css"]
pygments_style = "friendly"

copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

linkcheck_timeout = 15
linkcheck_ignore = [r"https?://(127\.0\.0\.1|localhost)"]


class Loaded(HTMLParser):
    """What a page loads by itself when it is opened."""

    SOURCES = frozenset({("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")})

    def __init__(self) -> None:
        super().__init__()
        self.foreign: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of what comes from another host."""
        named = dict(attrs)
        for name, value in attrs:
            fetched = tag != "link" or named.get("rel") not in ("canonical", "index", "search", "next", "prev")
            if (tag, name) in self.SOURCES and fetched and (value or "").startswith(("http:", "https:", "//")):
                self.foreign.add(value or "")


def load_nothing_from_elsewhere(app: Sphinx, error: Exception | None) -> None:
    """Warn where a page would load a font, a script or a picture from another host: readers may have no network."""
    if error is not None or app.builder.format != "html":
        return
    for page in sorted(Path(app.outdir).rglob("*.html")):
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        if loaded.foreign:
            logger.warning("%s loads from other hosts: %s", page.name, ", ".join(sorted(loaded.foreign)))


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("build-finished", load_nothing_from_elsewhere)
