"""Whose rights a person's kubeconfig gives, and what is not taken in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import certifi
import pytest

from llmbatch.kube.client import Kube
from llmbatch.kube.connect import connect, connect_as_user
from llmbatch.kube.errors import NoConfiguration
from support.api_server import ApiServer


async def impersonated(folder: Path, user: dict[str, Any]) -> list[tuple[str, str]]:
    """The headers of impersonation that a call as this user of a kubeconfig has."""
    with ApiServer(folder) as server:
        kubeconfig = server.kubeconfig_of({"token": "token", **user})
        access = await connect_as_user({}, kubeconfig=str(kubeconfig), user_agent="test")
        await Kube(access.api, lambda: None).namespace("team")
        await access.api.close()
    return [(key.lower(), value) for key, value in server.calls[0].headers if key.lower().startswith("impersonate-")]


async def test_who_acts_as_somebody_else_has_their_rights_alone(tmp_path: Path):
    """Each field of impersonation becomes its header, as with kubectl; nothing of it is left out."""
    user = {
        "as": "jane", "as-uid": "1234", "as-groups": ["readers", "team:search"],
        "as-user-extra": {"example.org/reason": ["support"], "scopes": ["view", "edit"]},
    }  # fmt: skip

    assert await impersonated(tmp_path, user) == [
        ("impersonate-user", "jane"),
        ("impersonate-uid", "1234"),
        ("impersonate-group", "readers"),
        ("impersonate-group", "team:search"),
        ("impersonate-extra-example.org%2freason", "support"),
        ("impersonate-extra-scopes", "view"),
        ("impersonate-extra-scopes", "edit"),
    ]
    assert await impersonated(tmp_path, {}) == []


@pytest.mark.parametrize(
    "user", [{"as-groups": ["readers"]}, {"as": ["jane"]}, {"as": "jane\nX: y"}, {"as": "j", "as-user-extra": ["x"]}]
)
async def test_an_impersonation_that_cannot_be_is_refused(tmp_path: Path, user: dict[str, Any]):
    """It is never left out, which would give larger rights than were meant."""
    with pytest.raises(NoConfiguration, match="cannot be used"):
        await impersonated(tmp_path, user)


async def test_the_operator_does_not_impersonate(tmp_path: Path):
    """Not all of its clients could, so a kubeconfig that says so is refused and not half obeyed."""
    kubeconfig = ApiServer(tmp_path).kubeconfig_of({"token": "token", "as": "jane"})

    with pytest.raises(NoConfiguration, match="impersonates"):
        await connect({"KUBECONFIG": str(kubeconfig)})


@pytest.fixture
def pod(tmp_path: Path) -> dict[str, Any]:
    """What a pod of namespace ``team`` has, and no kubeconfig."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    for name, text in (("token", "token"), ("ca.crt", Path(certifi.where()).read_text()), ("namespace", "team\n")):
        (folder / name).write_text(text)
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    return {
        "environ": {**environ, "KUBECONFIG": str(tmp_path / "nowhere")},
        "user_agent": "test",
        "service_account": folder,
    }


@pytest.mark.parametrize("named", [{"kubeconfig": "/nowhere/config"}, {"context": "production"}])
async def test_a_pod_does_not_stand_in_for_what_was_named(pod: dict[str, Any], named: dict[str, Any]):
    """A kubeconfig or context that was asked for and is not there never becomes the pod's own cluster and rights."""
    with pytest.raises(NoConfiguration, match="no kubeconfig at"):
        await connect_as_user(**pod, **named)


async def test_a_pod_without_a_kubeconfig_uses_its_own_account(pod: dict[str, Any]):
    """Where nothing was named, the pod's ServiceAccount and namespace serve, as with kubectl."""
    access = await connect_as_user(**pod)

    assert access.namespace == "team"
    assert access.api.configuration.host == "https://127.0.0.1:1"
