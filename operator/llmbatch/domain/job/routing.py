"""Choosing the deployment of a job."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from llmbatch.api.reasons import Reason


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment of the job's model that admits the job's namespace.

    ``file_id`` is its processed copy of the input, None where there is none yet; ``file_error`` why. ``active`` and
    ``enqueued`` are the unfinished batches there and their estimated input tokens.
    """

    deployment: str
    weight: int = 1
    ready: bool = True
    suspended: bool = False
    file_id: str | None = None
    file_error: str = ""
    active: int = 0
    enqueued: int = 0
    max_active: int | None = None
    max_enqueued: int | None = None
    asked: bool = True
    """Whether its account could say that it has no batch of an earlier job of that name."""

    def has_headroom(self, tokens: int) -> bool:
        """Whether one more batch of ``tokens`` fits; an empty deployment takes a batch of any size."""
        if self.max_active is not None and self.active >= self.max_active:
            return False
        return self.max_enqueued is None or self.active == 0 or self.enqueued + tokens <= self.max_enqueued


@dataclass(frozen=True, slots=True)
class NoRoute:
    """Why no deployment can take the job now, for programs and for people."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Eligible:
    """The deployments that can take the job now; never empty."""

    candidates: tuple[Candidate, ...]


def eligible(
    candidates: Sequence[Candidate],
    *,
    model: str,
    tokens: int,
    pin: str | None = None,
    refused_by: Collection[str] = (),
) -> Eligible | NoRoute:
    """The candidates that hold the processed file, are Ready and have headroom, or what is missing."""
    if pin is not None:
        candidates = [candidate for candidate in candidates if candidate.deployment == pin]
        if not candidates:
            return NoRoute(
                Reason.DEPLOYMENT_NOT_FOUND,
                f"waits for ModelDeployment {pin}: it does not exist, serves another model or does not admit this "
                "namespace; create it or make a job without deploymentRef",
            )
    else:
        candidates = [candidate for candidate in candidates if candidate.weight > 0]
    if not candidates:
        return NoRoute(
            Reason.DEPLOYMENT_NOT_FOUND,
            f"waits for a ModelDeployment with modelName {model} that admits this namespace; create one",
        )
    open_ = [candidate for candidate in candidates if candidate.ready and not candidate.suspended]
    if not open_:
        names = _names(candidates)
        return NoRoute(Reason.NO_READY_DEPLOYMENT, f"waits for a Ready deployment; see the conditions of {names}")
    holding = [candidate for candidate in open_ if candidate.file_id]
    if not holding:
        why = "; ".join(f"{candidate.deployment}: {candidate.file_error or 'uploading'}" for candidate in open_[:3])
        return NoRoute(Reason.INPUT_FILE_NOT_READY, f"waits for the input file on a deployment ({why})")
    willing = [candidate for candidate in holding if candidate.deployment not in refused_by]
    if not willing:
        return NoRoute(Reason.QUOTA, f"waits for quota on {_names(holding)}; it is tried again by itself")
    roomy = [candidate for candidate in willing if candidate.has_headroom(tokens)]
    if not roomy:
        return NoRoute(Reason.NO_HEADROOM, f"waits for headroom on {_names(willing)}: their limits are reached")
    return Eligible(tuple(roomy))


def _names(candidates: Sequence[Candidate]) -> str:
    shown = ", ".join(candidate.deployment for candidate in candidates[:5])
    return shown if len(candidates) <= 5 else f"{shown} and {len(candidates) - 5} more"


class WeightedChoice:
    """Spreads jobs by weight: smooth weighted round-robin, as in nginx, for each model on its own.

    Every run of sum(weights) choices holds each deployment exactly by its weight, so a spread of hundreds of jobs is
    off by one at the most, which independent random draws are not.
    """

    def __init__(self) -> None:
        self._credit: dict[tuple[str, str], int] = {}

    def choose(self, model: str, candidates: Sequence[Candidate]) -> Candidate:
        """Choose one of ``candidates``, which must not be empty; weight 0 (a pin) counts as 1."""
        total = 0
        best = candidates[0]
        for candidate in candidates:
            weight = max(1, candidate.weight)
            total += weight
            key = (model, candidate.deployment)
            self._credit[key] = self._credit.get(key, 0) + weight
            if self._credit[key] > self._credit[(model, best.deployment)]:
                best = candidate
        self._credit[(model, best.deployment)] -= total
        return best
