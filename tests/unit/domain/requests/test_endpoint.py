"""The endpoint of a line, in all the ways in which its URL is written."""

from __future__ import annotations

import pytest

from llmbatch.domain.requests.endpoint import Address, address_of, path_of


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/responses", "/v1/responses"),
        ("/openai/v1/responses", "/v1/responses"),
        ("https://api.openai.com/v1/responses", "/v1/responses"),
        ("https://eu.api.openai.com/v1/responses", "/v1/responses"),
        ("https://east.openai.azure.com/openai/v1/responses?api-version=preview", "/v1/responses"),
        ("HTTPS://East.cognitiveservices.azure.com:443/openai/v1/embeddings", "/v1/embeddings"),
        ("/v4/chat/completions", "/v4/chat/completions"),
        ("/api/v3/chat/completions", "/api/v3/chat/completions"),
        ("/v1beta/chat/completions", "/v1beta/chat/completions"),
        ("v1/responses", None),
        ("/", None),
        ("/v1/", None),
        ("/v1/a/", None),
        ("//evil", None),
        ("/a?b", None),
        ("/v1/responses?api-version=1", None),
        ("http://api.openai.com/v1/responses", None),
        ("https://api.openai.com.evil.example/v1/responses", None),
        ("https://evil.example/https://api.openai.com/v1/responses", None),
        ("/openai/deployments/a/b/../../files", None),
        ("/" + "a" * 61, None),
        ("/openai/v1/" + "a" * 600, None),
    ],
)
def test_endpoints_have_one_form(url: str, want: str | None):
    """All ways of writing an endpoint are one endpoint, and anything but a plain path is none."""
    assert address_of(url) == (want and Address(want))


@pytest.mark.parametrize("host", ["", "https://east.openai.azure.com"])
@pytest.mark.parametrize("version", ["", "?api-version=2024-10-21"])
def test_azures_path_names_a_deployment(host: str, version: str):
    """The file's own deployment takes its place; its name only shows whether the lines are of one."""
    found = address_of(f"{host}/openai/deployments/my.gpt_4-o/chat/completions{version}")

    assert found == Address("/v1/chat/completions", "my.gpt_4-o")


@pytest.mark.parametrize(
    ("endpoint", "prefix", "path"),
    [
        ("/v1/responses", "/v1", "/v1/responses"),
        ("/v1/responses", "", "/responses"),
        ("/v4/chat/completions", "", "/v4/chat/completions"),
        ("/v1beta/x", "", "/v1beta/x"),
    ],
)
def test_only_the_usual_version_is_a_prefix(endpoint: str, prefix: str, path: str):
    """Another version is sent as it was written."""
    assert path_of(endpoint, prefix) == path
