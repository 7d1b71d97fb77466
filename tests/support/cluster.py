"""The API server as tests see it: a small REST client, and kubectl for what is about kubectl."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

import urllib3
import yaml

from controlplane.session import Address

Object = dict[str, Any]
FIELD_MANAGER = "tests"
USER_AGENT = "llmbatch-tests"
# Clients whose writes are no part of what a test counts: we ourselves, and the control plane's own.
BYSTANDERS = (USER_AGENT, "bench", "kubectl", "kube-apiserver", "kube-controller-manager")
WRITING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
FIRST_POLL, LONGEST_POLL = 0.02, 0.25


class ApiError(Exception):
    """The API server refused; `status` is the HTTP code, `reason` the Kubernetes reason, the text its message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Resource:
    """One kind as discovery describes it."""

    kind: str
    plural: str
    api_version: str
    namespaced: bool
    names: frozenset[str]


@dataclass(frozen=True)
class Write:
    """One write that the API server answered."""

    verb: str
    resource: str
    subresource: str
    name: str
    status: int
    user_agent: str


class Cluster:
    """One user's way to the cluster. Kinds are named as in kubectl: `BatchJob`, `batchjobs`, `bj`."""

    def __init__(self, kubeconfig: Path, kubectl: Path, audit_log: Path) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl_path = kubectl
        self.audit_log = audit_log
        config = yaml.safe_load(kubeconfig.read_text())
        server = config["clusters"][0]["cluster"]
        authority = base64.b64decode(server["certificate-authority-data"]).decode()
        token = config["users"][0]["user"]["token"]
        self.url: str = server["server"]
        self._pool = urllib3.PoolManager(
            num_pools=2,
            maxsize=8,
            ssl_context=ssl.create_default_context(cadata=authority),
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
        )
        self._resources: dict[str, Resource] = {}

    @classmethod
    def at(cls, address: Address) -> Cluster:
        """The administrator's."""
        return cls(address.kubeconfig, address.kubectl, address.audit_log)

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; with `check` a failure raises AssertionError with what it printed."""
        command = [str(self.kubectl_path), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(
                f"kubectl {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def apply(self, manifests: str | Mapping[str, Any] | Iterable[Mapping[str, Any]], namespace: str) -> list[Object]:
        """Server-side apply of YAML text, one object or several; answers them as stored. Raises ApiError."""
        if isinstance(manifests, str):
            manifests = [document for document in yaml.safe_load_all(manifests) if document]
        elif isinstance(manifests, Mapping):
            manifests = [cast(Mapping[str, Any], manifests)]
        return [self._apply(item, namespace) for item in manifests]

    def _apply(self, manifest: Mapping[str, Any], namespace: str) -> Object:
        metadata = manifest["metadata"]
        path = self._path(manifest["kind"], metadata.get("namespace", namespace), metadata["name"])
        return self.request(
            "PATCH",
            f"{path}?{urlencode({'fieldManager': FIELD_MANAGER, 'force': 'true'})}",
            manifest,
            content_type="application/apply-patch+yaml",
        )

    def create(self, manifest: Mapping[str, Any], namespace: str) -> Object:
        """POST one object, `generateName` included. Raises ApiError."""
        return self.request("POST", self._path(manifest["kind"], namespace), manifest)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        """One object. Raises ApiError (status 404 where there is none)."""
        return self.request("GET", self._path(kind, namespace, name))

    def find(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None where there is none."""
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def list(self, kind: str, namespace: str | None = None, *, selector: str = "") -> list[Object]:
        """All objects of a kind, in one namespace or in all. `kind` and `apiVersion` are filled in."""
        query = f"?{urlencode({'labelSelector': selector})}" if selector else ""
        answer = self.request("GET", self._path(kind, namespace) + query)
        resource = self._resource(kind)
        return [{"kind": resource.kind, "apiVersion": resource.api_version, **item} for item in answer["items"]]

    def patch(
        self,
        kind: str,
        name: str,
        namespace: str | None,
        patch: Mapping[str, Any] | list[Any],
        *,
        subresource: str = "",
    ) -> Object:
        """A merge patch, or a JSON patch where `patch` is a list. Raises ApiError."""
        form = "json-patch" if isinstance(patch, list) else "merge-patch"
        path = self._path(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return self.request("PATCH", path, patch, content_type=f"application/{form}+json")

    def replace(self, manifest: Mapping[str, Any]) -> Object:
        """PUT an object as it is, like `kubectl replace`. Raises ApiError."""
        metadata = manifest["metadata"]
        return self.request("PUT", self._path(manifest["kind"], metadata.get("namespace"), metadata["name"]), manifest)

    def delete(self, kind: str, name: str, namespace: str | None = None, *, propagation: str = "Background") -> None:
        """Ask for a deletion; does not wait, and one that is gone already is well. Raises ApiError."""
        try:
            self.request("DELETE", self._path(kind, namespace, name), {"propagationPolicy": propagation})
        except ApiError as error:
            if error.status != 404:
                raise

    def wait_for(
        self,
        kind: str,
        name: str,
        namespace: str | None,
        predicate: Callable[[Object], object],
        timeout: float = 30,
    ) -> Object:
        """Poll until `predicate` holds and answer that object; at the deadline AssertionError shows the last one."""
        last: list[Object | None] = [None]

        def reached() -> bool:
            last[0] = self.find(kind, name, namespace)
            return last[0] is not None and bool(predicate(last[0]))

        if not poll(reached, timeout):
            shown = yaml.safe_dump(without_managed_fields(last[0])) if last[0] else "it does not exist"
            raise AssertionError(
                f"{kind} {namespace}/{name} was not as awaited within {timeout} s; last seen:\n{shown}"
            )
        assert last[0] is not None
        return last[0]

    def wait_condition(
        self, kind: str, name: str, namespace: str, type_: str, status: str = "True", timeout: float = 30
    ) -> Object:
        """Poll until the object has a condition of that status."""
        return self.wait_for(
            kind, name, namespace, lambda seen: (condition(seen, type_) or {}).get("status") == status, timeout
        )

    def wait_gone(self, kind: str, name: str, namespace: str | None = None, timeout: float = 30) -> None:
        """Poll until the object is gone; at the deadline AssertionError shows it."""
        if not poll(lambda: self.find(kind, name, namespace) is None, timeout):
            left = without_managed_fields(self.get(kind, name, namespace))
            raise AssertionError(f"{kind} {namespace}/{name} is still there after {timeout} s:\n{yaml.safe_dump(left)}")

    def writes(self, namespace: str, *resources: str) -> list[Write]:
        """What the operator wrote in a namespace, oldest first: all of it, or of these (`batchjobs`, `events`, …)."""
        wanted = f'"namespace":"{namespace}"'
        with self.audit_log.open() as log:
            found = [_write(json.loads(line)) for line in log if wanted in line]
        return [
            write
            for write in found
            if write.verb in WRITING
            and not write.user_agent.startswith(BYSTANDERS)
            and (not resources or write.resource in resources)
        ]

    def service_account(
        self, name: str, namespace: str, folder: Path, *, rules: list[Object] | None = None, cluster_wide: bool = False
    ) -> Cluster:
        """A ServiceAccount with `rules` in its namespace (or everywhere), and the cluster as it sees it."""
        kind = "ClusterRole" if cluster_wide else "Role"
        role = f"{namespace}-{name}" if cluster_wide else name
        rbac = "rbac.authorization.k8s.io"
        self.apply(
            [
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
                {"apiVersion": f"{rbac}/v1", "kind": kind, "metadata": {"name": role}, "rules": rules or []},
                {
                    "apiVersion": f"{rbac}/v1",
                    "kind": f"{kind}Binding",
                    "metadata": {"name": role},
                    "roleRef": {"apiGroup": rbac, "kind": kind, "name": role},
                    "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
                },
            ],
            namespace,
        )
        return self.as_account(name, namespace, folder)

    def as_account(self, name: str, namespace: str, folder: Path) -> Cluster:
        """The cluster as a ServiceAccount sees it, with a token for two hours; the kubeconfig goes to `folder`."""
        path = self._path("ServiceAccount", namespace, name) + "/token"
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 7200},
        }
        token = self.request("POST", path, request)["status"]["token"]
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        file = folder / f"{namespace}-{name}.kubeconfig"
        file.write_text(json.dumps(config))
        return Cluster(file, self.kubectl_path, self.audit_log)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        user_agent: str = USER_AGENT,
    ) -> Object:
        """One call to the API server. Raises ApiError."""
        answer = self._pool.request(
            method,
            self.url + path,
            body=None if body is None else json.dumps(body),
            headers={**self._pool.headers, "Content-Type": content_type, "User-Agent": user_agent},
            timeout=30,
        )
        content = answer.json() if "json" in answer.headers.get("Content-Type", "") else {"text": answer.data.decode()}
        if answer.status >= 400:
            raise ApiError(answer.status, content.get("reason", ""), content.get("message", content.get("text", "")))
        return content

    def _path(self, kind: str, namespace: str | None = None, name: str = "") -> str:
        resource = self._resource(kind)
        prefix = "/apis/" if "/" in resource.api_version else "/api/"
        scope = f"/namespaces/{quote(namespace)}" if resource.namespaced and namespace else ""
        return f"{prefix}{resource.api_version}{scope}/{resource.plural}" + (f"/{quote(name)}" if name else "")

    def _resource(self, kind: str) -> Resource:
        key = kind.lower()
        if key not in self._resources:
            self._discover()
        if key not in self._resources:
            raise LookupError(f"the API server has no kind {kind}")
        return self._resources[key]

    def _discover(self) -> None:
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        for root in ("/apis", "/api"):  # the core group last: its names win
            answer = self._pool.request("GET", self.url + root, headers={**self._pool.headers, "Accept": accept})
            for group in answer.json()["items"]:
                version = group["versions"][0]
                name = group["metadata"].get("name")
                api_version = f"{name}/{version['version']}" if name else version["version"]
                for found in version["resources"]:
                    resource = _resource(found, api_version)
                    self._resources |= dict.fromkeys(resource.names, resource)


def _write(event: Object) -> Write:
    reference = event["objectRef"]
    return Write(
        event["verb"],
        reference["resource"],
        reference.get("subresource", ""),
        reference.get("name", ""),
        event["responseStatus"]["code"],
        event.get("userAgent", ""),
    )


def _resource(found: Object, api_version: str) -> Resource:
    kind, plural = found["responseKind"]["kind"], found["resource"]
    names = {kind, plural, found.get("singularResource", kind), *found.get("shortNames", ())}
    return Resource(
        kind, plural, api_version, found["scope"] == "Namespaced", frozenset(name.lower() for name in names if name)
    )


def poll(reached: Callable[[], bool], timeout: float) -> bool:
    """Whether `reached` comes true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = FIRST_POLL
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_POLL)
    return True


def condition(item: Object, type_: str) -> Object | None:
    """The condition of that type, if the object has it."""
    found = item.get("status", {}).get("conditions", [])
    return next((entry for entry in found if entry["type"] == type_), None)


def without_managed_fields(item: Object) -> Object:
    """The object without what only bloats a failure's report."""
    return {**item, "metadata": {key: value for key, value in item["metadata"].items() if key != "managedFields"}}
