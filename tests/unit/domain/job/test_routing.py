"""Choosing a deployment: who is eligible, why nobody is, and how many jobs each one gets."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbatch.api.reasons import Reason
from llmbatch.domain.job.routing import Candidate, Eligible, NoRoute, WeightedChoice, eligible

EAST = Candidate("default/east", file_id="file-1")
WEST = Candidate("default/west", file_id="file-2")


def names(found: Eligible | NoRoute) -> list[str]:
    """The deployments that can take the job."""
    assert isinstance(found, Eligible)
    return [candidate.deployment for candidate in found.candidates]


def refusal(
    *candidates: Candidate, tokens: int = 10, pin: str | None = None, refused_by: tuple[str, ...] = ()
) -> NoRoute:
    """Why no deployment can take the job."""
    found = eligible(candidates, model="m", tokens=tokens, pin=pin, refused_by=refused_by)
    assert isinstance(found, NoRoute)
    return found


def test_all_that_hold_the_file_and_are_ready_can_take_a_job():
    """Those not Ready, suspended or without a copy are passed over."""
    others = [replace(EAST, ready=False), replace(EAST, suspended=True), replace(EAST, file_id=None)]

    assert names(eligible([EAST, *others, WEST], model="m", tokens=1)) == ["default/east", "default/west"]


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (replace(EAST, ready=False), Reason.NO_READY_DEPLOYMENT),
        (replace(EAST, suspended=True), Reason.NO_READY_DEPLOYMENT),
        (replace(EAST, file_id=None, file_error="SecretNotFound"), Reason.INPUT_FILE_NOT_READY),
        (replace(EAST, weight=0), Reason.DEPLOYMENT_NOT_FOUND),
        (replace(EAST, active=3, max_active=3), Reason.NO_HEADROOM),
        (replace(EAST, active=1, enqueued=95, max_enqueued=100), Reason.NO_HEADROOM),
    ],
)
def test_a_job_that_nobody_can_take_waits_for_what_is_missing(candidate, reason):
    """Each thing that can be missing has a reason of its own."""
    assert refusal(candidate).reason is reason


def test_without_a_deployment_the_model_is_named():
    """A job whose model nobody offers says which model that is."""
    assert refusal().reason is Reason.DEPLOYMENT_NOT_FOUND
    assert "modelName m" in refusal().message


def test_what_keeps_the_file_away_is_told():
    """A job that waits for its file says why the upload has not been done."""
    assert "SecretNotFound" in refusal(replace(EAST, file_id=None, file_error="SecretNotFound")).message


def test_those_that_refused_are_passed_over_until_all_have():
    """A deployment that had no room is not asked again while another may have some."""
    assert names(eligible([EAST, WEST], model="m", tokens=1, refused_by=["default/east"])) == ["default/west"]
    assert refusal(EAST, WEST, refused_by=("default/east", "default/west")).reason is Reason.QUOTA


def test_a_pin_leaves_one_choice():
    """A pinned job goes to its deployment, even one of weight 0, and waits for it by name where it is not there."""
    drained = replace(WEST, weight=0)

    assert names(eligible([EAST, drained], model="m", tokens=1, pin="default/west")) == ["default/west"]
    assert refusal(EAST, pin="default/west").reason is Reason.DEPLOYMENT_NOT_FOUND
    assert "default/west" in refusal(EAST, pin="default/west").message


def test_an_empty_deployment_takes_a_batch_of_any_size():
    """A batch above the limit of enqueued tokens would else wait for ever."""
    assert replace(EAST, max_enqueued=100).has_headroom(1_000)
    assert not replace(EAST, max_enqueued=100, active=1, enqueued=1).has_headroom(100)
    assert replace(EAST, max_enqueued=100, active=1, enqueued=1).has_headroom(99)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 4))
def test_every_round_holds_each_deployment_by_its_weight(weights, rounds):
    """In each run of as many choices as the weights add up to, every deployment is chosen as often as its weight."""
    candidates = [Candidate(f"default/{at}", weight=weight, file_id="f") for at, weight in enumerate(weights)]
    choice = WeightedChoice()

    for _ in range(rounds):
        chosen = Counter(choice.choose("m", candidates).deployment for _ in range(sum(weights)))
        assert chosen == {candidate.deployment: candidate.weight for candidate in candidates}


def test_models_are_spread_apart_from_each_other():
    """Choices for one model don't shift those for another one that runs on the same deployments."""
    choice = WeightedChoice()

    chosen = [choice.choose(model, [EAST, WEST]).deployment for model in "abab"]

    assert chosen == ["default/east", "default/east", "default/west", "default/west"]
