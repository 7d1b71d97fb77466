"""OpenAI, and APIs that are compatible with its files and batches.

Source: OpenAI's API reference (files, batches) and batch guide: 50,000 requests and 200 MB a file, files kept for
an hour to 30 days.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from llmbatch.api.modeldeployment import OpenAIProvider
from llmbatch.domain.remote import Capabilities, FileState
from llmbatch.providers.files_and_batches import FilesAndBatches
from llmbatch.providers.target import Target, checked_header, normalized

CAPABILITIES = Capabilities(
    max_requests_per_file=50_000,
    max_file_bytes=200_000_000,
    url_prefix="/v1",
    min_file_ttl=timedelta(hours=1),
    max_file_ttl=timedelta(days=30),
    validates_files=False,
)

FILE_STATES: Mapping[str, FileState] = {
    # OpenAI says nothing about a file before its batch is made, and compatible APIs may name no state at all.
    "": FileState.PROCESSED,
    "uploaded": FileState.PROCESSED,
    "processed": FileState.PROCESSED,
    "error": FileState.ERROR,
}


def target(block: OpenAIProvider) -> Target:
    """What an ``openAI`` block comes down to."""
    base_url = normalized(block.base_url)
    account = {}
    if block.organization:
        account["OpenAI-Organization"] = checked_header("organization", block.organization)
    if block.project:
        account["OpenAI-Project"] = checked_header("project", block.project)
    return Target(
        label="OpenAI",
        price_provider="openai",
        endpoint=base_url,
        organization=block.organization or "",
        project=block.project or "",
        model=block.model,
        key_reference=block.auth.secret_key_ref,
        capabilities=CAPABILITIES,
        api_url=base_url,
        query={},
        authorize=lambda key: {"Authorization": f"Bearer {key}", **account},
        file_states=FILE_STATES,
        files_page=1000,
        adapter=FilesAndBatches,
    )
