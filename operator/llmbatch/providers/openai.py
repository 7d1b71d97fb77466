"""OpenAI, and APIs that are compatible with its files and batches.

Source: OpenAI's API reference (files, batches) and batch guide: 50,000 requests and 200 MB a file, files kept for
an hour to 30 days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

from llmbatch.api.modeldeployment import OpenAIProvider
from llmbatch.domain.remote import Capabilities, FileState
from llmbatch.providers.files_and_batches import FilesAndBatches
from llmbatch.providers.target import Target, checked_header, normalized

OPENAI_HOST = "api.openai.com"

CAPABILITIES = Capabilities(
    max_requests_per_file=50_000,
    max_file_bytes=200_000_000,
    url_prefix="/v1",
    min_file_ttl=timedelta(hours=1),
    max_file_ttl=timedelta(days=30),
    endpoints=frozenset(
        {
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/embeddings",
            "/v1/responses",
            "/v1/moderations",
            "/v1/images/generations",
            "/v1/images/edits",
            "/v1/videos",
        }
    ),
    max_embedding_inputs=50_000,
    streams=False,
)
COMPATIBLE = replace(CAPABILITIES, endpoints=None, max_embedding_inputs=None, streams=True)
"""An API that only has the form of OpenAI's: it says itself what it takes."""

FILE_STATES: Mapping[str, FileState] = {
    # OpenAI says nothing about a file before its batch is made, and compatible APIs may name no state at all.
    "": FileState.PROCESSED,
    "uploaded": FileState.PROCESSED,
    "processed": FileState.PROCESSED,
    "succeeded": FileState.PROCESSED,
    "success": FileState.PROCESSED,
    "completed": FileState.PROCESSED,
    "ready": FileState.PROCESSED,
    "active": FileState.PROCESSED,
    "available": FileState.PROCESSED,
    "done": FileState.PROCESSED,
    "pending": FileState.PROCESSING,
    "queued": FileState.PROCESSING,
    "inqueue": FileState.PROCESSING,
    "notrunning": FileState.PROCESSING,
    "running": FileState.PROCESSING,
    "processing": FileState.PROCESSING,
    "inprogress": FileState.PROCESSING,
    "validating": FileState.PROCESSING,
    "uploading": FileState.PROCESSING,
    "error": FileState.ERROR,
    "errored": FileState.ERROR,
    "failed": FileState.ERROR,
    "failure": FileState.ERROR,
    "cancelled": FileState.ERROR,
    "expired": FileState.ERROR,
    "deleted": FileState.ERROR,
}


def target(block: OpenAIProvider) -> Target:
    """What an ``openAI`` block comes down to."""
    base_url = normalized(block.base_url)
    account = {}
    original = _is_original(base_url)
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
        capabilities=CAPABILITIES if original else COMPATIBLE,
        api_url=base_url,
        query={},
        authorize=lambda key: {"Authorization": f"Bearer {key}", **account},
        file_states=FILE_STATES,
        # Others may call the purpose otherwise, and hide what they do not know by this name.
        files_query={"purpose": "batch"} if original else {},
        files_page=1000,
        adapter=FilesAndBatches,
    )


def _is_original(base_url: str) -> bool:
    """Whether this is OpenAI itself, in whichever region, and not an API that is only compatible."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return False
    return host == OPENAI_HOST or host.endswith(f".{OPENAI_HOST}")
