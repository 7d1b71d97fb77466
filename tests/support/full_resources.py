"""One resource of each kind with every field set, as it stands on the wire."""

from __future__ import annotations

from typing import Any

API_VERSION = "llmbatch.dev/v1alpha1"
TIME = "2026-07-01T12:00:00Z"
EAST = {"namespace": "default", "name": "east"}
COUNTS = {"total": 1000, "completed": 990, "failed": 10}
IDS = {"batchID": "batch_1", "inputFileID": "file-1", "outputFileID": "file-2", "errorFileID": "file-3"}


def condition(kind: str) -> dict[str, Any]:
    """A true condition with every field."""
    return {
        "type": kind,
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": TIME,
        "reason": "Completed",
        "message": "It is so.",
    }


DEPLOYMENT = {
    "apiVersion": API_VERSION,
    "kind": "ModelDeployment",
    "metadata": {"name": "full"},
    "spec": {
        "modelName": "m",
        "openAI": {
            "baseURL": "https://api.openai.com/v1",
            "model": "gpt-4o-mini",
            "organization": "org-1",
            "project": "proj-1",
            "auth": {"secretKeyRef": {"name": "openai", "key": "api-key"}},
        },
        "weight": 2,
        "limits": {
            "maxRequestsPerFile": 50000,
            "maxFileBytes": "200Mi",
            "maxEnqueuedTokens": 2_000_000_000_000,
            "maxActiveBatches": 20,
        },
        "pricing": {
            "model": "gpt-4o-mini",
            "inputPerMillionTokens": "0.075",
            "cachedInputPerMillionTokens": "0.0375",
            "outputPerMillionTokens": "0.30",
        },
        "allowedNamespaces": {
            "from": "Selector",
            "selector": {
                "matchLabels": {"team": "search"},
                "matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold"]}],
            },
        },
        "suspend": True,
    },
    "status": {
        "observedGeneration": 1,
        "conditions": [condition("Ready"), condition("Reconciling"), condition("Stalled")],
        "provider": "OpenAI",
        "activeBatches": 3,
        "enqueuedTokens": 203000,
        "lastProbeTime": TIME,
    },
}

FILE = {
    "apiVersion": API_VERSION,
    "kind": "BatchFile",
    "metadata": {"name": "full"},
    "spec": {
        "targetModelNames": ["m"],
        "source": {"url": "s3://bucket/key", "credentialsSecretRef": {"name": "bucket"}},
        "providerFileTTL": "480h30m",
        "deletionPolicy": "Retain",
    },
    "status": {
        "observedGeneration": 1,
        "conditions": [condition("Validated"), condition("Ready"), condition("Uploaded")],
        "requests": 1000,
        "bytes": 812345,
        "sha256": "a" * 64,
        "customIDDigest": "c" * 32,
        "estimatedInputTokens": 203000,
        "endpoint": "/v1/chat/completions",
        "errors": [{"line": 17, "code": "duplicate_custom_id", "key": "custom_id", "message": "It is there twice."}],
        "deployments": [
            {
                **EAST,
                "modelName": "m",
                "form": "gpt-4o-mini /v1/",
                "state": "Failed",
                "reason": "UploadFailed",
                "error": "The provider was not there.",
                "failures": 2,
                "retryTime": TIME,
                "files": [
                    {
                        "shard": 0,
                        "fileID": "file-1",
                        "state": "Processed",
                        "requests": 1000,
                        "bytes": 812345,
                        "uploadTime": TIME,
                        "expiryTime": TIME,
                    }
                ],
            }
        ],
    },
}

JOB = {
    "apiVersion": API_VERSION,
    "kind": "BatchJob",
    "metadata": {"name": "full"},
    "spec": {
        "inputFileRef": {"name": "full"},
        "targetModelName": "m",
        "deploymentRef": EAST,
        "endpoint": "/v1/chat/completions",
        "completionWindow": "24h",
        "metadata": {"team": "search"},
        "output": {"url": "s3://bucket/prefix", "credentialsSecretRef": {"name": "bucket"}},
        "suspend": True,
        "cancel": True,
        "backoffLimit": 5,
        "activeDeadlineSeconds": 172800,
        "ttlSecondsAfterFinished": 604800,
        "deletionPolicy": "Retain",
    },
    "status": {
        "observedGeneration": 1,
        "phase": "Succeeded",
        "conditions": [condition("Complete"), condition("Finished")],
        "modelName": "m",
        "deployment": EAST,
        **IDS,
        "shards": [
            {
                "index": 0,
                "deployment": EAST,
                **IDS,
                "attempt": 2,
                "failures": 1,
                "phase": "Succeeded",
                "requestCounts": COUNTS,
                "submitTime": TIME,
                "retryTime": TIME,
                "unauthorizedSince": TIME,
                "waits": 3,
                "refusedBy": ["default/west"],
            }
        ],
        "requestCounts": COUNTS,
        "customIDDigest": "d" * 32,
        "phaseTime": TIME,
        "unansweredSince": TIME,
        "progress": "1000/1000",
        "usage": {
            "inputTokens": 10_000_000_000,
            "cachedInputTokens": 1,
            "outputTokens": 2,
            "reasoningTokens": 1,
            "totalTokens": 10,
            "requestsWithout": 1_000_000_002,
        },
        "cost": {
            "amount": "1.234567",
            "currency": "USD",
            "source": "genai-prices",
            "reason": "NoBatchPrice",
            "basis": "Prices in words.",
        },
        "output": {"location": "s3://bucket/prefix", "bytes": 3_000_000_000, "lines": 1000},
        "attempts": [
            {
                "number": 1,
                "shard": 0,
                "deployment": EAST,
                "batchID": "batch_0",
                "result": "Failed",
                "reason": "The service failed.",
                "time": TIME,
            }
        ],
        "attemptCount": 2,
        "suspendedTime": TIME,
        "suspendedSeconds": 60,
        "startTime": TIME,
        "completionTime": TIME,
        "lastPollTime": TIME,
    },
}

FULL: dict[str, dict[str, Any]] = {one["kind"]: one for one in (DEPLOYMENT, FILE, JOB)}
