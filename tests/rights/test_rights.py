"""The chart gives the operator what it uses, and nothing else: judged by what the integration suite asked for."""

from __future__ import annotations

import pytest

from support.helm import render
from support.rights import FORBIDDEN, RECORD, Asked, Right, granted_by, kept, roles_of

PROVOKED: frozenset[Right] = frozenset()
"""What a test has an operator ask for though it must be refused."""
RELEASES = {"everywhere": {}, "in some namespaces": {"watchNamespaces": ["team"]}}


@pytest.fixture(scope="module")
def asked() -> frozenset[Asked]:
    """What operators asked for in the last run of the whole integration suite; of a part of it nothing is kept."""
    assert RECORD.exists(), "nothing is known of what the operator asks for; run `make test` without ARGS"
    return kept()


def test_nothing_was_refused(asked: frozenset[Asked]):
    """RBAC let the operator do all that it tried, in both ways to install it."""
    assert sorted(
        f"{found.user}: {found.right} in {found.namespace or 'the cluster'}"
        for found in asked
        if found.decision == FORBIDDEN and found.right not in PROVOKED
    ) == []  # fmt: skip


@pytest.mark.parametrize("values", RELEASES.values(), ids=RELEASES)
def test_every_right_is_used(asked: frozenset[Asked], values: dict[str, list[str]]):
    """A right that the operator never asked for is one too many."""
    used = {found.right for found in asked}

    assert sorted(map(str, granted_by(roles_of(render(values))) - used)) == []


@pytest.mark.parametrize("values", RELEASES.values(), ids=RELEASES)
def test_rights_name_groups_resources_and_verbs(values: dict[str, list[str]]):
    """No rule is a pattern, and Secrets are read one by one: whoever may list them has all of them."""
    granted = granted_by(roles_of(render(values)))

    assert [str(right) for right in granted if "*" in "".join(right)] == []
    assert {right.verb for right in granted if right.resource == "secrets"} == {"get", "create", "update"}


def test_secrets_are_only_read_where_no_results_go_there():
    """With `rbac.secretOutputs: false` the operator has `get` on Secrets and nothing else."""
    granted = granted_by(roles_of(render({"rbac": {"secretOutputs": False}})))

    assert {right.verb for right in granted if right.resource == "secrets"} == {"get"}
