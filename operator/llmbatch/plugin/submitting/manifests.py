"""What ``submit`` makes of a file: the objects, and the names that make the same submit twice one and the same."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, BinaryIO, Literal

from pydantic import ValidationError

from llmbatch.api.batchfile import BatchFile, BatchFileSpec
from llmbatch.api.batchjob import BatchJob, BatchJobSpec
from llmbatch.api.names import API_VERSION
from llmbatch.domain.requests.validation import InputReport
from llmbatch.plugin.exits import Exit, Stop
from llmbatch.plugin.outputs.bucket import place_of

INLINE_BYTES = 32 * 1024
"""A BatchFile of this size is still cheap to write and to watch; each of its status updates carries all of it."""
OBJECT_BYTES = 1_048_576
"""Kubernetes: at most 1 MiB of data in a ConfigMap or Secret."""
STEM_CHARACTERS = 40
HASH_CHARACTERS = 10
KEY = "requests.jsonl"
MANAGED_BY = {"app.kubernetes.io/managed-by": "kubectl-llmbatch"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")

Manifest = dict[str, Any]
Home = Literal["inline", "ConfigMap", "Secret", "s3"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for. ``to`` and ``output_to`` are as typed; ``job_spec`` has the other fields of the job."""

    file: str
    model: str | None
    to: str | None = None
    credentials_secret: str | None = None
    output_to: str | None = None
    output_credentials_secret: str | None = None
    name: str | None = None
    namespace: str | None = None
    deployment: str | None = None
    job_spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """The objects to be made, and where the content goes: ``data`` is the ConfigMap or Secret, ``url`` the object in a
    bucket."""

    file: Manifest
    job: Manifest
    data: Manifest | None = None
    url: str | None = None

    @property
    def manifests(self) -> list[Manifest]:
        """All objects in the order in which they are made."""
        return [*([self.data] if self.data else []), self.file, self.job]


def planned(wish: Wish, report: InputReport, content: BinaryIO) -> Plan:
    """The plan for a valid file. Raises Stop where the wish cannot be met."""
    home = _home(wish, report)
    name = file_name(wish, report, home)
    job = wish.name or name
    if not _NAME.fullmatch(job) or len(job) > 253:
        raise Stop(f"{job} is no name of an object: lower-case letters, digits, - and . only", Exit.USAGE)
    source, data, url = _source(wish, home, name, content)
    spec = {"targetModelNames": [wish.model], "source": source}
    output = _output(wish, home, job)
    pin = _pin(wish)
    job_spec = {"inputFileRef": {"name": name}, **wish.job_spec}
    job_spec |= {"output": output} if output else {}
    job_spec |= {"deploymentRef": pin} if pin else {}
    _check(BatchFileSpec, spec)
    _check(BatchJobSpec, job_spec)
    return Plan(
        file=_manifest(wish, BatchFile.KIND, name, spec=spec),
        job=_manifest(wish, BatchJob.KIND, job, spec=job_spec),
        data=_manifest(wish, home, name, api="v1", immutable=True, **data) if data else None,
        url=url,
    )


def _check(kind: type[BatchFileSpec] | type[BatchJobSpec], spec: Manifest) -> None:
    """What the API server would refuse is refused here, also without one. Raises Stop; no value is told."""
    try:
        kind.model_validate(spec)
    except ValidationError as error:
        places = sorted({".".join(map(str, found["loc"])) for found in error.errors(include_input=False)})
        raise Stop(f"this cannot be: {', '.join(places)}; see --help", Exit.USAGE) from None


def file_name(wish: Wish, report: InputReport, home: Home) -> str:
    """A name from the file's own and from all that a BatchFile is bound to, so that another content is another name."""
    bound = (report.sha256, wish.model, home, wish.to if home == "s3" else "")
    digest = hashlib.sha256("\0".join(map(str, bound)).encode()).hexdigest()[:HASH_CHARACTERS]
    return f"{_stem(wish.file)}-{digest}"


def _stem(path: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", PurePath(path).name.split(".")[0].lower())
    return words[:STEM_CHARACTERS].strip("-") or "requests"


def _home(wish: Wish, report: InputReport) -> Home:
    homes: dict[str | None, Home] = {"inline": "inline", "configmap": "ConfigMap", "secret": "Secret"}
    limits: dict[Home, int] = {"inline": 131_072, "ConfigMap": OBJECT_BYTES, "Secret": OBJECT_BYTES}
    if wish.to and wish.to.startswith("s3://"):
        return "s3"
    if wish.to not in homes and wish.to is not None:
        raise Stop("--to is inline, configmap, secret or s3://BUCKET/PREFIX", Exit.USAGE)
    home = homes[wish.to] if wish.to else "inline" if report.bytes <= INLINE_BYTES else "ConfigMap"
    if report.bytes > limits[home]:
        raise Stop(
            f"{report.bytes} bytes do not fit into a {home if home != 'inline' else 'BatchFile'} ({limits[home]});"
            " name a bucket: --to s3://BUCKET/PREFIX --credentials-secret NAME",
            Exit.USAGE,
        )
    return home


def _source(wish: Wish, home: Home, name: str, content: BinaryIO) -> tuple[Manifest, Manifest | None, str | None]:
    if home == "s3":
        url = str(place_of(f"{str(wish.to).rstrip('/')}/{name}.jsonl"))
        credentials = wish.credentials_secret
        return {"url": url, **({"credentialsSecretRef": {"name": credentials}} if credentials else {})}, None, url
    text = content.read().decode()
    if home == "inline":
        return {"inline": text}, None, None
    reference = {"name": name, "key": KEY}
    if home == "Secret":
        encoded = base64.b64encode(text.encode()).decode()
        return {"secretKeyRef": reference}, {"type": "Opaque", "data": {KEY: encoded}}, None
    return {"configMapKeyRef": reference}, {"data": {KEY: text}}, None


def _output(wish: Wish, home: Home, job: str) -> Manifest | None:
    """Where results go: as asked, else beside the input, as confidential as that."""
    beside = {"Secret": "secret", "s3": str(wish.to)}
    wanted = wish.output_to or beside.get(home, "configmap")
    if wanted == "none":
        return None
    if wanted.startswith("s3://"):
        credentials = wish.output_credentials_secret or wish.credentials_secret
        prefix = place_of(wanted if wish.output_to else f"{wanted.rstrip('/')}/{job}")
        return {"url": str(prefix), **({"credentialsSecretRef": {"name": credentials}} if credentials else {})}
    kind, _, name = wanted.partition("/")
    fields = {"configmap": "configMap", "secret": "secret"}
    if kind not in fields:
        raise Stop("--output-to is configmap[/NAME], secret[/NAME], s3://BUCKET/PREFIX or none", Exit.USAGE)
    return {fields[kind]: {"name": name or f"{job}-output"}}


def _pin(wish: Wish) -> Manifest | None:
    if wish.deployment is None:
        return None
    namespace, _, name = wish.deployment.rpartition("/")
    if not (namespace or wish.namespace):
        raise Stop("without a cluster --deployment is written NAMESPACE/NAME", Exit.USAGE)
    return {"namespace": namespace or wish.namespace, "name": name}


def _manifest(wish: Wish, kind: str, name: str, *, api: str = API_VERSION, **fields: Any) -> Manifest:
    metadata: Manifest = {"name": name}
    metadata |= {"namespace": wish.namespace} if wish.namespace else {}
    return {"apiVersion": api, "kind": kind, "metadata": {**metadata, "labels": MANAGED_BY}, **fields}
