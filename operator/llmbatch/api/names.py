"""The names that manifests, dashboards and other people's tools rely on."""

from __future__ import annotations

GROUP = "llmbatch.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

FINALIZER = f"{GROUP}/finalizer"

ANNOTATION_DEPLOYMENT = f"{GROUP}/deployment"
ANNOTATION_CREATE_PENDING = f"{GROUP}/create-pending"
ANNOTATION_BATCH_ID = f"{GROUP}/batch-id"

LABEL_JOB_UID = f"{GROUP}/job-uid"
"""On a ConfigMap or Secret that a job wrote: the UID of that job."""
LABEL_JOB_NAME = f"{GROUP}/job-name"

TAG_CLUSTER = "llmbatch-cluster"
TAG_JOB = "llmbatch-job"
TAG_UID = "llmbatch-uid"
TAG_SHARD = "llmbatch-shard"
TAG_ATTEMPT = "llmbatch-attempt"


def shard_annotation(name: str, shard: int) -> str:
    """The annotation's name for one shard: shard 0 bare, shard n with the suffix ``.n``."""
    return name if shard == 0 else f"{name}.{shard}"
