"""One namespace with deployments, files and jobs, in the words of the tests."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support.cluster import Cluster, Object, condition
from support.emulator import Account, chat_lines

API = "llmbatch.dev/v1alpha1"
MODEL = "gpt-4o-mini-batch"
FINISH_SECONDS = 60.0


@dataclass(frozen=True)
class World:
    """A namespace of a real cluster; everything that is made lies in it."""

    cluster: Cluster
    namespace: str

    # --- making -----------------------------------------------------------------------------------------------

    def secret(self, name: str, **values: str) -> Object:
        """Make a Secret, or put other values into it."""
        data = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in values.items()}
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
        return self.cluster.apply(manifest, self.namespace)[0]

    def openai(self, name: str, account: Account, *, model: str = "gpt-4o-mini", **spec: Any) -> str:
        """A ModelDeployment on an OpenAI account, with its Secret."""
        block = {"baseURL": account.url, "model": model}
        return self._deployment(name, account, "openAI", block, spec)

    def azure(
        self, name: str, account: Account, *, deployment: str, api_version: str | None = None, **spec: Any
    ) -> str:
        """A ModelDeployment on an Azure account, with its Secret; without an api_version on the v1 API."""
        block: dict[str, Any] = {"endpoint": account.url, "deployment": deployment}
        if api_version:
            block["apiVersion"] = api_version
        return self._deployment(name, account, "azureOpenAI", block, spec)

    def _deployment(self, name: str, account: Account, kind: str, block: dict[str, Any], spec: dict[str, Any]) -> str:
        secret = spec.pop("secret", f"key-{name}")
        if spec.pop("with_secret", True):
            self.secret(secret, api_key=account.key)
        block["auth"] = {"secretKeyRef": {"name": secret, "key": "api-key"}}
        self.make("ModelDeployment", name, {"modelName": MODEL, kind: block, **spec})
        return name

    def file(
        self,
        name: str = "questions",
        *,
        lines: bytes | str | None = None,
        source: Mapping[str, Any] | None = None,
        models: Sequence[str] = (MODEL,),
        **spec: Any,
    ) -> str:
        """A BatchFile, inline unless a source is given."""
        content = chat_lines(3, model=models[0]) if lines is None else lines
        text = content.decode() if isinstance(content, bytes) else content
        given = dict(source) if source else {"inline": text}
        self.make("BatchFile", name, {"targetModelNames": list(models), "source": given, **spec})
        return name

    def job(
        self, name: str = "run", *, file: str = "questions", metadata: Mapping[str, Any] | None = None, **spec: Any
    ) -> str:
        """A BatchJob."""
        self.make("BatchJob", name, {"inputFileRef": {"name": file}, **spec}, metadata=metadata)
        return name

    def make(
        self, kind: str, name: str, spec: Mapping[str, Any], *, metadata: Mapping[str, Any] | None = None
    ) -> Object:
        """Any of the three kinds."""
        manifest = {"apiVersion": API, "kind": kind, "metadata": {"name": name, **(metadata or {})}, "spec": spec}
        return self.cluster.create(manifest, self.namespace)

    # --- looking ----------------------------------------------------------------------------------------------

    def get(self, kind: str, name: str) -> Object:
        """One object."""
        return self.cluster.get(kind, name, self.namespace)

    def ready(self, kind: str, name: str, *, timeout: float = 20) -> Object:
        """The object once it is Ready."""
        return self.cluster.wait_condition(kind, name, self.namespace, "Ready", timeout=timeout)

    def until(self, kind: str, name: str, predicate: Any, *, timeout: float = 20) -> Object:
        """The object once it is as wanted."""
        return self.cluster.wait_for(kind, name, self.namespace, predicate, timeout=timeout)

    def finished(self, name: str = "run", *, timeout: float = FINISH_SECONDS) -> Object:
        """The job once it is Finished."""
        return self.cluster.wait_condition("BatchJob", name, self.namespace, "Finished", timeout=timeout)

    def running(self, name: str = "run", *, timeout: float = 20) -> Object:
        """The job once its batch is known in status."""
        return self.until("BatchJob", name, lambda job: job.get("status", {}).get("batchID"), timeout=timeout)

    def output(self, name: str) -> dict[str, str]:
        """The data of a ConfigMap."""
        return self.cluster.get("ConfigMap", name, self.namespace)["data"]

    def delete(self, kind: str, name: str) -> None:
        """Ask for a deletion."""
        self.cluster.delete(kind, name, self.namespace)

    def gone(self, kind: str, name: str, *, timeout: float = 30) -> None:
        """Wait until an object is gone."""
        self.cluster.wait_gone(kind, name, self.namespace, timeout=timeout)

    def reason(self, kind: str, name: str, type_: str) -> str | None:
        """The reason of a condition."""
        found = condition(self.get(kind, name), type_)
        return found["reason"] if found else None
