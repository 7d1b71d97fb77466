"""The manifests that the pages show are taken by a real API server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cluster import Cluster

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
GROUP = "llmbatch.dev/"
DEPLOYMENT = {"apiVersion": "llmbatch.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "shown"}}


def manifests(page: Path) -> Iterator[dict[str, Any]]:
    """Resources of our kinds in a page's blocks of YAML; a provider's block by itself is put into a deployment."""
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for document in yaml.safe_load_all(block):
            if not isinstance(document, dict):
                continue
            if str(document.get("apiVersion", "")).startswith(GROUP):
                yield document
            elif document.keys() <= {"openAI", "azureOpenAI"}:
                yield {**DEPLOYMENT, "spec": {"modelName": "shown", **document}}


PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if list(manifests(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_manifest_of_a_page_is_taken(cluster: Cluster, namespace: str, page: Path) -> None:
    """Whoever copies a manifest from a page finds no field that is unknown, and no value that is refused."""
    texts = [
        yaml.safe_dump({**found, "metadata": {**found["metadata"], "namespace": namespace}})
        for found in manifests(page)
    ]
    done = cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin="---\n".join(texts))

    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(texts)
