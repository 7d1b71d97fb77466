"""When the process says that it is ready and live."""

from __future__ import annotations

import time
from typing import cast

import pytest

from llmbatch.app.liveness import ANSWER_AGE, BEHIND_TWICE, Liveness
from llmbatch.kube.lease import NoElection
from llmbatch.kube.transport import Api
from support.virtual_time import VirtualClock


class Answers:
    """An API server that answered some seconds ago, or never."""

    def __init__(self, ago: float | None) -> None:
        self.answered_at = None if ago is None else time.monotonic() - ago


def liveness(ago: float | None, *, listed: bool = True) -> Liveness:
    made = Liveness(cast(Api, Answers(ago)), NoElection(), VirtualClock())
    made.listed = listed
    return made


@pytest.mark.parametrize(
    ("ago", "listed", "ready"),
    [(0.0, True, True), (0.0, False, False), (None, True, False), (ANSWER_AGE + 1, True, False)],
)
def test_it_is_ready_once_it_has_listed_and_while_the_api_server_answers(ago, listed, ready):
    """An API server that has not answered for a minute, or never did, is not to be worked with."""
    assert liveness(ago, listed=listed).ready().ok is ready


def test_it_is_live_while_the_watch_keeps_up():
    """An API server that is away is no reason to restart; a watch that stays behind is."""
    away = liveness(ANSWER_AGE + 1)
    behind = liveness(0.0)
    behind.times_behind = BEHIND_TWICE

    assert away.live().ok
    assert not behind.live().ok
