"""The rights that the chart gives the operator, and those that it asked the API server for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from support.cluster import USER_AGENT
from support.helm import RELEASE, Object, Rendered

RECORD = Path(__file__).resolve().parents[2] / "build" / "rights.json"
"""What operators asked for in the last run of the whole integration suite."""
ACCOUNT = RELEASE
"""The operator's ServiceAccount, or the end of its name where the release is called otherwise."""
FORBIDDEN = "forbid"


class Right(NamedTuple):
    """To do something to a kind of resource; a subresource comes after a slash."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}.{self.group}".removesuffix(".")


@dataclass(frozen=True, order=True)
class Asked:
    """What an operator asked for; `user` is its account, `decision` that of RBAC. Where, is told only of a refusal."""

    user: str
    right: Right
    namespace: str
    decision: str


def keep(asked: Iterable[Asked], record: Path = RECORD) -> None:
    """Write down what was asked, each thing once, for whoever judges it."""
    record.parent.mkdir(exist_ok=True)
    record.write_text(json.dumps([asdict(found) for found in sorted(set(asked))], indent=1))


def kept(record: Path = RECORD) -> frozenset[Asked]:
    """What was written down. Raises FileNotFoundError."""
    found = json.loads(record.read_text())
    return frozenset(Asked(**(entry | {"right": Right(*entry["right"])})) for entry in found)


def account_of(release: Rendered) -> list[Object]:
    """The operator's account and what is bound to it, with the namespace of the release before it."""
    account = release.one("ServiceAccount")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": account["metadata"]["namespace"]}}
    return [namespace, account, *roles_of(release), *bindings_of(release)]


def bindings_of(release: Rendered) -> list[Object]:
    """The bindings whose subject is the operator's account."""
    name = release.one("ServiceAccount")["metadata"]["name"]
    bindings = [*release.all("ClusterRoleBinding"), *release.all("RoleBinding")]
    return [binding for binding in bindings if any(subject["name"] == name for subject in binding["subjects"])]


def roles_of(release: Rendered) -> list[Object]:
    """The roles that those bindings name."""
    bound = {(binding["roleRef"]["kind"], binding["roleRef"]["name"]) for binding in bindings_of(release)}
    return [role for role in release if (role["kind"], role["metadata"]["name"]) in bound]


def granted_by(roles: Iterable[Object]) -> set[Right]:
    """The rights that these roles grant. Which objects a rule names is not told."""
    return {
        Right(group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked_in(audit_log: Path) -> Iterator[Asked]:
    """What operators asked for, once for each request or more often; a path that is no resource has no group.

    Left out is what tests asked for as one.
    """
    with audit_log.open() as log:
        for line in log:
            if f'{ACCOUNT}"' in line:
                event = json.loads(line)
                if event["user"]["username"].endswith(ACCOUNT) and event["userAgent"] != USER_AGENT:
                    yield _asked(event)


def _asked(event: Object) -> Asked:
    where = event.get("objectRef", {})
    resource = "/".join(filter(None, (where.get("resource"), where.get("subresource")))) or event["requestURI"]
    decision = event["annotations"]["authorization.k8s.io/decision"]
    return Asked(
        event["user"]["username"],
        Right(where.get("apiGroup", ""), resource, event["verb"]),
        where.get("namespace", "") if decision == FORBIDDEN else "",
        decision,
    )
