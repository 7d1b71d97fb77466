"""Where the operator's own credentials serve tenants, and where they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbatch.domain.ambient import AmbientPrefix, covered

KEYS = st.text(alphabet="ab.%/\\{} \n", min_size=1, max_size=12)


def covers(prefix: str, url: str, namespace: str = "team") -> bool:
    """Whether an object at this URL lies below the prefix."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return AmbientPrefix.parse(prefix).covers(bucket, key, namespace)


@pytest.mark.parametrize(
    ("prefix", "url"),
    [
        ("s3://b-1/", "s3://b-1/x"),
        ("s3://b-1/team/", "s3://b-1/team/x"),
        ("s3://b-1/team/", "s3://b-1/team/deeper/ü (1)/x.jsonl"),
        ("s3://b-1/{namespace}/", "s3://b-1/team/x"),
        ("s3://b-1/in/{namespace}/new/", "s3://b-1/in/team/new/x"),
    ],
)
def test_what_lies_below_a_prefix_is_covered(prefix: str, url: str):
    """At any depth, and with the tenant's own namespace where the prefix says so."""
    assert covers(prefix, url)


@pytest.mark.parametrize(
    ("prefix", "url"),
    [
        ("s3://b-1/team/", "s3://b-1/team-b/x"),
        ("s3://b-1/team/", "s3://b-1/team"),
        ("s3://b-1/team/", "s3://b-1/other/team/x"),
        ("s3://b-1/team/", "s3://b-1/TEAM/x"),
        ("s3://b-1/team/", "s3://b-12/team/x"),
        ("s3://b-1/", "s3://b-12/x"),
        ("s3://b-1/{namespace}/", "s3://b-1/other/x"),
        ("s3://b-1/{namespace}/", "s3://b-1/{namespace}/x"),
        ("s3://b-1/{namespace}/", "s3://b-1/team-b/x"),
    ],
)
def test_what_only_looks_like_a_prefix_is_not_covered(prefix: str, url: str):
    """A prefix ends where a part of the path does, and one tenant's is not another's."""
    assert not covers(prefix, url)


@pytest.mark.parametrize(
    "key",
    [
        *("team/../other/x", "team/./x", "team//x", "team/", "/team/x"),
        *("team/%2e%2e/other/x", "team/..%2Fother/x", "team/%252e%252e/x", "team/..\\other\\x"),
        *("team/x\ny", "team/x\0", "team/\u2024\u2024/x", "team/\uff0e\uff0e/x"),
    ],
)
def test_a_key_that_could_mean_another_one_is_not_covered(key: str):
    """Dots, escapes, backslashes and characters that some store or proxy may take for them lead nowhere."""
    assert not covers("s3://b-1/team/", f"s3://b-1/{key}")


@given(KEYS)
def test_nothing_that_is_covered_leaves_the_prefix(key: str):
    """However a key is built, what is covered has no part that is empty, a dot, or an escape."""
    if covers("s3://b-1/a/", f"s3://b-1/{key}"):
        own, *rest = key.split("/")
        assert own == "a"
        assert rest
        assert not {"", ".", ".."} & set(rest)
        assert not set("%\\\n") & set(key)


@pytest.mark.parametrize(
    "text",
    [
        *("", "b-1/team/", "gs://b-1/x/", "s3:///team/", "s3://B/team/", "s3://{namespace}/"),
        *("s3://b-1", "s3://b-1/team", "s3://b-1//", "s3://b-1/../", "s3://b-1/a/../", "s3://b-1/%2e/"),
        *("s3://b-1/team-{namespace}/", "s3://b-1/{name}/", "s3://b-1/*/", "s3://b-1/a b/", "s3://b-1/a/\n"),
    ],
)
def test_a_prefix_that_could_mean_more_than_it_says_is_refused(text: str):
    """A slash ends it, and the bucket and the parts are written out; the message says so."""
    with pytest.raises(ValueError, match="s3://BUCKET/PART/"):
        AmbientPrefix.parse(text)


def test_one_of_several_prefixes_is_enough():
    """Without any, nothing is covered."""
    prefixes = [AmbientPrefix.parse("s3://b-1/a/"), AmbientPrefix.parse("s3://b-1/b/")]

    assert covered(prefixes, "b-1", "b/x", "team")
    assert not covered(prefixes, "b-1", "c/x", "team")
    assert not covered([], "b-1", "a/x", "team")
