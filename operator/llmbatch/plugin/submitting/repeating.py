"""What ``retry`` makes of a job: the same spec under a free name, with outputs of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llmbatch.api import BatchJob, names
from llmbatch.api.batchjob import Phase
from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.domain.conditions import condition

NAME_MAX = 253
RETRY_OF = f"{names.GROUP}/retry-of"
"""Annotation: the name of the job that this one repeats."""
ONCE = ("suspend", "cancel")
"""Fields of a spec that were about that one run."""
_SUFFIX = re.compile(r"-retry-[0-9]{1,6}$")
_TRACKING = re.compile(
    r"app\.kubernetes\.io/(instance|managed-by)$|helm\.sh/|(argocd\.argoproj|[a-z]+\.toolkit\.fluxcd)\.io/"
)
"""Labels by which Argo CD, Flux and Helm know what is theirs: what carries them and is in no manifest is deleted."""
_ENDED = frozenset(phase.value for phase in Phase if phase.finished)
_INVALID = frozenset(
    {Reason.INPUT_FILE_INVALID, Reason.TARGET_MODEL_AMBIGUOUS, Reason.TARGET_MODEL_UNKNOWN, Reason.ENDPOINT_MISMATCH}
)


def why_not(job: BatchJob) -> str | None:
    """Why running the job again makes no sense, and what does; None where it does."""
    name, phase = job.metadata.name, job.status.phase
    if not phase.finished:
        counts = job.status.request_counts
        done = f", {counts.completed} of {counts.total} requests are answered" if counts and counts.total else ""
        return f"has not ended ({phase.value}{done}); wait for it, or end it first: kubectl llmbatch cancel {name}"
    ended = condition(job.status.conditions, ConditionType.FAILED)
    if ended is not None and ended.reason in _INVALID:
        return f"would fail again ({ended.reason}: {ended.message}); submit what was corrected as a new job"
    return None


def run_again_by(jobs: Iterable[Mapping[str, Any]], name: str) -> str | None:
    """Of jobs as they are stored, the one that repeats the job of that name and has not ended; None without one."""
    for job in jobs:
        meta, phase = job["metadata"], job.get("status", {}).get("phase")
        repeats = (meta.get("annotations") or {}).get(RETRY_OF) == name and "deletionTimestamp" not in meta
        if repeats and phase not in _ENDED:
            return meta["name"]
    return None


def name_of_retry(name: str, is_taken: Callable[[str], bool]) -> str:
    """The job's name with the next suffix that nobody has."""
    stem = _SUFFIX.sub("", name)
    number = 1
    while is_taken(made := _with_suffix(stem, f"-retry-{number}")):
        number += 1
    return made


def _with_suffix(stem: str, suffix: str) -> str:
    return stem[: NAME_MAX - len(suffix)].rstrip("-.") + suffix


def manifest_of_retry(stored: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The new job, from the old one as it is stored; fields that this program does not know are kept.

    Annotations are left behind: they are the operator's, and those of tools about that one object.
    """
    old = stored["metadata"]
    spec = {key: value for key, value in stored["spec"].items() if key not in ONCE}
    if "output" in spec:
        spec["output"] = _moved(spec["output"], old["name"], name)
    labels = {key: value for key, value in (old.get("labels") or {}).items() if not _TRACKING.match(key)}
    return {
        "apiVersion": names.API_VERSION,
        "kind": BatchJob.KIND,
        "metadata": {
            "name": name,
            "namespace": old["namespace"],
            **({"labels": labels} if labels else {}),
            "annotations": {RETRY_OF: old["name"]},
        },
        "spec": spec,
    }


def _moved(output: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    """The output beside the old one: an existing object of another job would be refused, and one in a bucket lost."""
    made = dict(output)
    for kind in ("configMap", "secret"):
        if kind in made:
            made[kind] = {**made[kind], "name": _renamed(made[kind]["name"], old, new)}
    if "url" in made:
        url = made["url"].rstrip("/")
        prefix, _, last = url.rpartition("/")
        made["url"] = f"{prefix}/{_renamed(last, old, new)}" if _is_of(last, old) else f"{url}/{new}"
    return made


def _renamed(name: str, old: str, new: str) -> str:
    """A name that begins with the old job's begins with the new one's; another gets the new suffix."""
    if _is_of(name, old):
        return (new + name[len(old) :])[:NAME_MAX].rstrip("-.")
    suffix = found[0] if (found := _SUFFIX.search(new)) else f"-{new}"
    return _with_suffix(_SUFFIX.sub("", name), suffix)


def _is_of(name: str, job: str) -> bool:
    return name == job or name.startswith((f"{job}-", f"{job}."))
