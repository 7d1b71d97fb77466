"""A small API server on loopback: keeps objects, checks nothing, and can lose its answers.

For how the plugin behaves where a whole control plane would show no more and cost seconds.
"""

from __future__ import annotations

import copy
import itertools
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from llmbatch.api.names import API_VERSION

Stored = dict[str, Any]
NOW = "2026-01-01T00:00:00Z"
PLURALS = ("batchjobs", "batchfiles", "modeldeployments", "configmaps", "secrets", "namespaces")


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Sequence[tuple[str, str]]


class ApiServer:
    """Use it in a ``with``; ``kubeconfig`` leads to it, in namespace ``team``."""

    def __init__(self, folder: Path) -> None:
        self.objects: dict[str, Stored] = {}
        self.calls: list[Call] = []
        self.lost: set[tuple[str, str]] = set()
        """Method and end of the path of calls that have their effect and get no answer."""
        self.conflicts: set[str] = set()
        """Kinds, by plural, that somebody else always changes just before a patch."""
        self._folder = folder
        self._versions = itertools.count(1)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="api", daemon=True)

    def __enter__(self) -> ApiServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig for it."""
        return self.kubeconfig_of({"token": "token"})

    def kubeconfig_of(self, user: Mapping[str, Any]) -> Path:
        """A kubeconfig for it, with these credentials."""
        config = {
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": dict(user)}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
            "current-context": "x",
        }
        file = self._folder / "api-server.kubeconfig"
        file.write_text(json.dumps(config))
        return file

    def put(self, plural: str, name: str, **fields: Any) -> Stored:
        """Store an object of namespace ``team`` as it is; ``metadata`` adds to what every object has."""
        group = API_VERSION if plural.startswith(("batch", "model")) else "v1"
        path = f"{'/apis' if '/' in group else '/api'}/{group}/namespaces/team/{plural}/{name}"
        meta = {"name": name, "namespace": "team", **fields.pop("metadata", {})}
        return self._store(path, {"apiVersion": group, **fields, "metadata": meta})

    def names(self, plural: str) -> list[str]:
        """The names of what is stored of a kind."""
        return [path.rpartition("/")[2] for path in self.objects if f"/{plural}/" in path]

    def get(self, plural: str, name: str) -> Stored:
        """An object as it is stored."""
        return next(found for path, found in self.objects.items() if path.endswith(f"/{plural}/{name}"))

    def _store(self, path: str, given: Stored) -> Stored:
        number = str(next(self._versions))
        own = {"uid": f"uid-{number}", "creationTimestamp": NOW}
        made = {**given, "metadata": {**own, **given["metadata"], "resourceVersion": number}}
        self.objects[path] = made
        return made

    def answer(self, call: Call, body: Any) -> tuple[int, Any]:
        """The status and body for a call."""
        path, last = call.path, call.path.rpartition("/")[2]
        if call.method == "POST":
            return self._create(f"{path}/{body['metadata']['name']}", path, body, dry="dryRun" in call.query)
        if call.method == "GET" and last in PLURALS:
            return 200, self._list(path, last, call.query)
        if path not in self.objects:
            return 404, {"kind": "Status", "reason": "NotFound"}
        return (200, self.objects[path]) if call.method == "GET" else self._patch(path, body)

    def _create(self, path: str, collection: str, body: Stored, *, dry: bool) -> tuple[int, Any]:
        if path in self.objects:
            return 409, {"kind": "Status", "reason": "AlreadyExists"}
        namespace = collection.split("/namespaces/")[1].split("/")[0]
        given = {**body, "metadata": {**body["metadata"], "namespace": namespace}}
        return 201, given if dry else self._store(path, given)

    def _list(self, path: str, plural: str, query: Mapping[str, str]) -> Stored:
        if query.get("watch"):
            return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "1"}}}
        namespace = path.partition("/namespaces/")[2].partition("/")[0]
        items = [
            found
            for at, found in self.objects.items()
            if f"/{plural}/" in at
            and namespace in ("", found["metadata"]["namespace"])
            and query.get("fieldSelector", f"metadata.name={found['metadata']['name']}").endswith(
                f"={found['metadata']['name']}"
            )
        ]
        return {"metadata": {"resourceVersion": "1"}, "items": items}

    def _patch(self, path: str, body: Stored) -> tuple[int, Any]:
        found = self.objects[path]
        wanted = body.get("metadata", {}).get("resourceVersion", found["metadata"]["resourceVersion"])
        if wanted != found["metadata"]["resourceVersion"] or path.split("/")[-2] in self.conflicts:
            return 409, {"kind": "Status", "reason": "Conflict"}
        return 200, self._store(path, _merged(copy.deepcopy(found), body))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _handle(self) -> None:
                address = urlsplit(self.path)
                call = Call(self.command, address.path, dict(parse_qsl(address.query)), self.headers.items())
                length = int(self.headers.get("Content-Length") or 0)
                status, made = server.answer(call, json.loads(self.rfile.read(length)) if length else None)
                server.calls.append(call)
                if "dryRun" not in call.query and any(
                    call.method == method and call.path.endswith(end) for method, end in server.lost
                ):
                    return
                text = json.dumps(made).encode() + b"\n"
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PATCH = _handle

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def _merged(into: Stored, patch: Mapping[str, Any]) -> Stored:
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        else:
            into[key] = _merged(into.get(key) or {}, value) if isinstance(value, dict) else value
    return into
