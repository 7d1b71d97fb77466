"""What Argo CD and kstatus make of every state."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from lupa.lua51 import LuaError

from llmbatch.api.reasons import Reason
from support import argocd, kstatus
from support.argocd import CHECKS, Health, checked, health, script_of
from support.cluster import Object
from support.states import State, every_state

STATES = every_state()
TOLD_BY_DEPLOYMENTS_ALONE = {Reason.READY, Reason.NOT_SHARED, Reason.PROBING}


def reasons(resource: Object) -> set[str]:
    """Those of all its conditions."""
    return {found["reason"] for found in resource.get("status", {}).get("conditions", ())}


def test_the_states_tell_every_reason():
    """A reason that comes later needs a state here, and so a place in both tables."""
    told = set[str]().union(*(reasons(state.object) for state in STATES))

    assert {reason.value for reason in Reason} - told == {reason.value for reason in TOLD_BY_DEPLOYMENTS_ALONE}


# --- Argo CD ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_argo_cd_shows_a_state_as_it_is(state: State):
    """Each state has the health that a person would give it, and a message that says why."""
    shown = health(state.object)

    assert shown.status == state.health
    assert shown.message


def cases() -> list[tuple[Path, Health]]:
    """The tests of all checks in the form in which Argo CD keeps them: an object's file and its health."""
    found = list[tuple[Path, Health]]()
    for suite in sorted(CHECKS.glob("*/*/health_test.yaml")):
        for case in yaml.safe_load(suite.read_text())["tests"]:
            found.append((suite.parent / case["inputPath"], Health(**case["healthStatus"])))
    return found


@pytest.mark.parametrize(("file", "wanted"), cases(), ids=lambda value: value.stem if isinstance(value, Path) else "")
def test_argo_cds_own_tests_pass(file: Path, wanted: Health):
    """They are run as Argo CD runs them: the check alone, status and message exactly as written."""
    resource = yaml.safe_load(file.read_text())

    assert resource["kind"] == file.parent.parent.name
    assert checked(script_of(resource["kind"]), resource) == wanted


def test_no_object_is_kept_that_no_test_uses():
    """What lies in testdata is tested."""
    assert sorted(CHECKS.glob("*/*/testdata/*")) == sorted(file for file, _ in cases())


@pytest.mark.parametrize("kind", ["BatchJob", "BatchFile", "ModelDeployment"])
@pytest.mark.parametrize(
    "status",
    [
        None,
        {},
        {"observedGeneration": 1},
        {"observedGeneration": 1, "conditions": []},
        {"observedGeneration": 1, "conditions": [{"type": "Unheard", "status": "True", "reason": "Of"}]},
    ],
    ids=["none", "empty", "no conditions", "empty conditions", "other conditions"],
)
def test_a_status_that_says_nothing_is_progressing(kind: str, status: Object | None):
    """A check never fails for what is missing, since Argo CD would show that as Unknown."""
    resource: Object = {"kind": kind, "metadata": {"name": "it", "generation": 1}, "spec": {}}
    if status is not None:
        resource["status"] = status

    assert checked(script_of(kind), resource).status == "Progressing"


@pytest.mark.parametrize("script", ["return string.len('x')", "return io.open('x')", "return {status = math.huge}"])
def test_checks_are_run_with_what_argo_cd_gives_them(script: str):
    """A check that needed more would work here and fail there."""
    with pytest.raises(LuaError, match="nil value"):
        checked(script, {})


def test_a_hook_that_its_time_to_live_deletes_is_told_as_it_ended():
    """Argo CD holds it by a finalizer of its own until it has seen the end; Progressing would hold it for ever."""
    state = next(state for state in STATES if state.name == "BatchJob: deleted after its end")
    metadata = {**state.object["metadata"], "finalizers": [argocd.HOOK_FINALIZER]}

    assert health({**state.object, "metadata": metadata}).status == "Healthy"


# --- kstatus ----------------------------------------------------------------------------------------------------------


def test_kstatus_takes_a_state_for_what_it_is():
    """InProgress, Current, Failed or Terminating, as the conditions mean it."""
    told = kstatus.statuses(state.object for state in STATES)

    wrong = [
        (state.name, found.status, state.kstatus)
        for state, found in zip(STATES, told, strict=True)
        if found.status != state.kstatus
    ]
    assert wrong == []


SAME = {"Healthy": "Current", "Degraded": "Failed", "Progressing": "InProgress", "Suspended": "InProgress"}
OTHERWISE = {
    "cancelled-at-the-provider": "Current",  # nothing is left to be done, though it is not what the spec asks for
}


def test_kstatus_and_argo_cd_agree_on_what_was_seen_in_a_cluster():
    """But for one state of which kstatus cannot know more than that nothing is under way."""
    files = [(file.stem, yaml.safe_load(file.read_text()), shown.status) for file, shown in cases()]

    told = kstatus.statuses(resource for _, resource, _ in files)

    wanted = [(name, OTHERWISE.get(name, SAME[shown])) for name, _, shown in files]
    assert [(name, found.status) for (name, _, _), found in zip(files, told, strict=True)] == wanted
