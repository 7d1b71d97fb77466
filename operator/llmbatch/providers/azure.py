"""Azure OpenAI, by its classic API with a dated version or by the /openai/v1 one.

Source: Microsoft's REST reference (files, batch) and how-to page on batches: 50,000 requests (100,000 in places) and
200 MB a file, files kept for 14 to 30 days; at most 500 files that never expire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from llmbatch.api.modeldeployment import AzureOpenAIProvider
from llmbatch.domain.remote import Capabilities, FileState
from llmbatch.providers.files_and_batches import FilesAndBatches
from llmbatch.providers.target import Target, normalized

RESPONSES = "/v1/responses"
"""Written so in lines by the how-to page, for either API."""

V1 = Capabilities(
    max_requests_per_file=50_000,
    max_file_bytes=200_000_000,
    url_prefix="/v1",
    min_file_ttl=timedelta(days=14),
    max_file_ttl=timedelta(days=30),
    endpoints=frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", RESPONSES}),
    max_embedding_inputs=None,
    streams=False,
    # The how-to page: the field must be there, but whether the Responses API is wanted is read from the input file.
    batch_endpoints={RESPONSES: "/chat/completions"},
)
CLASSIC = replace(V1, url_prefix="", line_urls={RESPONSES: RESPONSES})

FILE_STATES: Mapping[str, FileState] = {
    "": FileState.PROCESSING,
    "notrunning": FileState.PROCESSING,
    "running": FileState.PROCESSING,
    "pending": FileState.PROCESSING,
    "uploaded": FileState.PROCESSING,
    "processed": FileState.PROCESSED,
    "succeeded": FileState.PROCESSED,
    "error": FileState.ERROR,
    "failed": FileState.ERROR,
    "deleting": FileState.ERROR,
    "deleted": FileState.ERROR,
    "cancelled": FileState.ERROR,
}


def target(block: AzureOpenAIProvider) -> Target:
    """What an ``azureOpenAI`` block comes down to."""
    # The portal shows the endpoint with the API's path as well as without.
    endpoint = normalized(block.endpoint).removesuffix("/openai/v1").removesuffix("/openai")
    classic = block.api_version is not None
    return Target(
        label="AzureOpenAI",
        price_provider="azure",
        endpoint=endpoint,
        organization="",
        project="",
        model=block.deployment,
        key_reference=block.auth.secret_key_ref,
        capabilities=CLASSIC if classic else V1,
        api_url=f"{endpoint}/openai" if classic else f"{endpoint}/openai/v1",
        query={"api-version": block.api_version} if block.api_version is not None else {},
        authorize=lambda key: {"api-key": key},
        file_states=FILE_STATES,
        files_query={"purpose": "batch"},
        # The classic API documents no paging of files, and answers with all of them.
        files_page=None if classic else 1000,
        adapter=FilesAndBatches,
    )
