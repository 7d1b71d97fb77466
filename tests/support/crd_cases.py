"""What the schema refuses and takes, as data: (kind, …) for creations, (kind, spec, change, …) for changes."""

from __future__ import annotations

from typing import Any

API_VERSION = "llmbatch.dev/v1alpha1"
Change = dict[str, Any]

KEY_REF = {"name": "s", "key": "k"}
AUTH = {"auth": {"secretKeyRef": KEY_REF}}
OPENAI = {"model": "gpt-4o-mini", **AUTH}
AZURE = {"endpoint": "https://east.openai.azure.com", "deployment": "d", **AUTH}

DEPLOYMENT = {"modelName": "m", "openAI": OPENAI}
AZURE_DEPLOYMENT = {"modelName": "m", "azureOpenAI": AZURE}
FILE = {"targetModelNames": ["m"], "source": {"inline": "{}"}}
URL_FILE = {"targetModelNames": ["m"], "source": {"url": "s3://bucket/key", "credentialsSecretRef": {"name": "s"}}}
JOB = {"inputFileRef": {"name": "f"}}


def resource(kind: str, spec: Change, name: str = "it") -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def merged(base: Any, change: Any) -> Any:
    """A JSON merge patch, as RFC 7396 has it."""
    if not isinstance(change, dict):
        return change
    made = dict(base) if isinstance(base, dict) else {}
    for key, value in change.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merged(made.get(key), value)
    return made


REFUSED_SPECS: list[tuple[str, str, Change, str]] = [
    ("ModelDeployment", "no provider", {"modelName": "m"}, "set exactly one provider: openAI or azureOpenAI"),
    ("ModelDeployment", "two providers", {**DEPLOYMENT, "azureOpenAI": AZURE}, "set exactly one provider"),
    (
        "ModelDeployment",
        "endpoint scheme",
        merged(AZURE_DEPLOYMENT, {"azureOpenAI": {"endpoint": "ftp://x.y"}}),
        "https?",
    ),
    (
        "ModelDeployment",
        "endpoint user",
        merged(AZURE_DEPLOYMENT, {"azureOpenAI": {"endpoint": "https://a:b@x.y"}}),
        "endpoint",
    ),
    (
        "ModelDeployment",
        "api version",
        merged(AZURE_DEPLOYMENT, {"azureOpenAI": {"apiVersion": "latest"}}),
        "apiVersion",
    ),
    (
        "ModelDeployment",
        "input price alone",
        {**DEPLOYMENT, "pricing": {"inputPerMillionTokens": "1"}},
        "set inputPerMillionTokens and outputPerMillionTokens together",
    ),
    ("ModelDeployment", "output price alone", {**DEPLOYMENT, "pricing": {"outputPerMillionTokens": "1"}}, "together"),
    (
        "ModelDeployment",
        "cached price alone",
        {**DEPLOYMENT, "pricing": {"cachedInputPerMillionTokens": "1"}},
        "cachedInputPerMillionTokens needs inputPerMillionTokens and outputPerMillionTokens",
    ),
    (
        "ModelDeployment",
        "price as words",
        {**DEPLOYMENT, "pricing": {"inputPerMillionTokens": "-1", "outputPerMillionTokens": "1"}},
        "inputPerMillionTokens",
    ),
    (
        "ModelDeployment",
        "Selector without selector",
        {**DEPLOYMENT, "allowedNamespaces": {"from": "Selector"}},
        "set selector exactly when from is Selector",
    ),
    (
        "ModelDeployment",
        "selector without Selector",
        {**DEPLOYMENT, "allowedNamespaces": {"selector": {"matchLabels": {"a": "b"}}}},
        "set selector exactly when from is Selector",
    ),
    ("ModelDeployment", "weight", {**DEPLOYMENT, "weight": -1}, "weight"),
    ("ModelDeployment", "quantity", {**DEPLOYMENT, "limits": {"maxFileBytes": "200 MB"}}, "maxFileBytes"),
    ("ModelDeployment", "negative quantity", {**DEPLOYMENT, "limits": {"maxFileBytes": -1}}, "maxFileBytes"),
    (
        "ModelDeployment",
        "secret name",
        merged(DEPLOYMENT, {"openAI": {"auth": {"secretKeyRef": {"name": "../x"}}}}),
        "name",
    ),
    ("BatchFile", "no target", {**FILE, "targetModelNames": []}, "targetModelNames"),
    ("BatchFile", "same target twice", {**FILE, "targetModelNames": ["m", "m"]}, "Duplicate"),
    (
        "BatchFile",
        "no source",
        {**FILE, "source": {}},
        "set exactly one source: inline, configMapKeyRef, secretKeyRef or url",
    ),
    ("BatchFile", "two sources", merged(FILE, {"source": {"configMapKeyRef": KEY_REF}}), "set exactly one source"),
    (
        "BatchFile",
        "credentials without url",
        merged(FILE, {"source": {"credentialsSecretRef": {"name": "s"}}}),
        "goes with url",
    ),
    ("BatchFile", "too long inline", merged(FILE, {"source": {"inline": "x" * 131_073}}), "inline"),
    ("BatchFile", "key with a slash", {**FILE, "source": {"configMapKeyRef": {"name": "c", "key": "../k"}}}, "key"),
    *(
        ("BatchFile", f"source {url}", {**FILE, "source": {"url": url}}, message)
        for url, message in [
            ("gs://bucket/key", "only s3://BUCKET/KEY is supported in this version"),
            ("az://container/key", "only s3://BUCKET/KEY is supported in this version"),
            ("https://example.com/key", "gs, az and https URLs are not yet"),
            ("s3://bucket", "an s3 URL has the form s3://BUCKET/KEY"),
            ("s3://bucket/key?versionId=1", "without a query"),
            ("s3://BUCKET/key", "an s3 URL has the form s3://BUCKET/KEY"),
        ]
    ),
    ("BatchFile", "time to live", {**FILE, "providerFileTTL": "30d"}, "providerFileTTL"),
    ("BatchFile", "deletion policy", {**FILE, "deletionPolicy": "Orphan"}, '"Delete", "Retain"'),
    ("BatchJob", "no file", {}, "inputFileRef"),
    ("BatchJob", "no output", {**JOB, "output": {}}, "set exactly one output: configMap, secret or url"),
    (
        "BatchJob",
        "two outputs",
        {**JOB, "output": {"configMap": {"name": "a"}, "secret": {"name": "a"}}},
        "exactly one output",
    ),
    (
        "BatchJob",
        "credentials without url",
        {**JOB, "output": {"configMap": {"name": "a"}, "credentialsSecretRef": {"name": "s"}}},
        "goes with url",
    ),
    ("BatchJob", "output on gs", {**JOB, "output": {"url": "gs://bucket/p"}}, "only s3://BUCKET/KEY is supported"),
    (
        "BatchJob",
        "reserved metadata",
        {**JOB, "metadata": {"llmbatch-uid": "x"}},
        "reserved for the operator; choose another name",
    ),
    ("BatchJob", "reserved in capitals", {**JOB, "metadata": {"LLMBatch": "x"}}, "reserved for the operator"),
    ("BatchJob", "12 metadata entries", {**JOB, "metadata": {f"k{n}": "v" for n in range(12)}}, "at most 11"),
    ("BatchJob", "metadata key of 65", {**JOB, "metadata": {"k" * 65: "v"}}, "metadata keys have 1 to 64 characters"),
    ("BatchJob", "empty metadata key", {**JOB, "metadata": {"": "v"}}, "metadata keys have 1 to 64 characters"),
    ("BatchJob", "metadata value of 513", {**JOB, "metadata": {"k": "v" * 513}}, "may not be more than 512"),
    ("BatchJob", "completion window", {**JOB, "completionWindow": "1h"}, '"24h"'),
    ("BatchJob", "endpoint", {**JOB, "endpoint": "https://x/v1/y"}, "endpoint"),
    ("BatchJob", "deadline of nothing", {**JOB, "activeDeadlineSeconds": 0}, "activeDeadlineSeconds"),
    ("BatchJob", "backoff limit", {**JOB, "backoffLimit": -1}, "backoffLimit"),
]

TAKEN_SPECS: list[tuple[str, Change]] = [
    ("ModelDeployment", {**DEPLOYMENT, "pricing": {"model": "gpt-4o-mini"}}),
    ("ModelDeployment", {**DEPLOYMENT, "limits": {"maxFileBytes": 1000}}),
    ("ModelDeployment", {**DEPLOYMENT, "limits": {"maxFileBytes": "1.5Gi"}}),
    ("ModelDeployment", {**DEPLOYMENT, "weight": 0}),
    ("BatchFile", {**FILE, "source": {"inline": "x" * 131_072}}),
    ("BatchFile", {**FILE, "source": {"secretKeyRef": KEY_REF}}),
    ("BatchFile", {**FILE, "source": {"url": "s3://my.bucket-1/a b/c.jsonl"}}),
    ("BatchJob", {**JOB, "metadata": {f"{n:064}": "v" * 512 for n in range(11)}}),
    ("BatchJob", {**JOB, "output": {"url": "s3://bucket/prefix/", "credentialsSecretRef": {"name": "s"}}}),
]

NEW_JOB, NEW_FILE, NEW_DEPLOYMENT = "make a new BatchJob", "make a new BatchFile", "make a new ModelDeployment"
FULL_JOB = {
    **JOB,
    "targetModelName": "m",
    "deploymentRef": {"namespace": "n", "name": "d"},
    "endpoint": "/v1/embeddings",
    "metadata": {"team": "a"},
    "output": {"configMap": {"name": "o"}},
    "cancel": True,
}
FULL_OPENAI = merged(DEPLOYMENT, {"openAI": {"organization": "o", "project": "p"}})

OPTIONAL_JOB_FIELDS = ("targetModelName", "deploymentRef", "endpoint", "metadata", "output")
REFUSED_CHANGES: list[tuple[str, Change, Change, str]] = [
    ("BatchJob", JOB, {"inputFileRef": {"name": "other"}}, NEW_JOB),
    *(("BatchJob", JOB, {field: FULL_JOB[field]}, NEW_JOB) for field in OPTIONAL_JOB_FIELDS),
    *(("BatchJob", FULL_JOB, {field: None}, NEW_JOB) for field in OPTIONAL_JOB_FIELDS),
    ("BatchJob", FULL_JOB, {"targetModelName": "other"}, f"targetModelName cannot change; {NEW_JOB}"),
    ("BatchJob", FULL_JOB, {"deploymentRef": {"name": "other"}}, f"deploymentRef cannot change; {NEW_JOB}"),
    ("BatchJob", FULL_JOB, {"endpoint": "/v1/completions"}, f"endpoint cannot change; {NEW_JOB}"),
    ("BatchJob", FULL_JOB, {"metadata": {"team": "b"}}, f"metadata cannot change; {NEW_JOB}"),
    ("BatchJob", FULL_JOB, {"metadata": {"more": "b"}}, f"metadata cannot change; {NEW_JOB}"),
    ("BatchJob", FULL_JOB, {"output": {"configMap": {"name": "other"}}}, f"output cannot change; {NEW_JOB}"),
    ("BatchJob", FULL_JOB, {"output": {"configMap": {"retain": False}}}, f"output cannot change; {NEW_JOB}"),
    ("BatchJob", FULL_JOB, {"cancel": False}, f"a cancel cannot be taken back; {NEW_JOB}"),
    ("BatchJob", FULL_JOB, {"cancel": None}, f"a cancel cannot be taken back; {NEW_JOB}"),
    (
        "BatchFile",
        FILE,
        {"targetModelNames": ["m", "n"]},
        "targetModelNames cannot change; content and targets are bound",
    ),
    ("BatchFile", FILE, {"providerFileTTL": "24h"}, NEW_FILE),
    ("BatchFile", FILE, {"source": {"inline": "{} "}}, NEW_FILE),
    ("BatchFile", FILE, {"source": {"inline": None, "configMapKeyRef": KEY_REF}}, NEW_FILE),
    ("BatchFile", FILE, {"source": {"inline": None, "url": "s3://bucket/key"}}, NEW_FILE),
    (
        "BatchFile",
        URL_FILE,
        {"source": {"url": "s3://bucket/other"}},
        "url cannot change; content and targets are bound",
    ),
    (
        "BatchFile",
        {**FILE, "source": {"configMapKeyRef": KEY_REF}},
        {"source": {"configMapKeyRef": {"key": "o"}}},
        NEW_FILE,
    ),
    ("BatchFile", {**FILE, "source": {"secretKeyRef": KEY_REF}}, {"source": {"secretKeyRef": {"name": "o"}}}, NEW_FILE),
    (
        "ModelDeployment",
        DEPLOYMENT,
        {"openAI": None, "azureOpenAI": AZURE},
        f"the provider's kind cannot change; {NEW_DEPLOYMENT}",
    ),
    (
        "ModelDeployment",
        DEPLOYMENT,
        {"openAI": {"baseURL": "https://other.example/v1"}},
        f"baseURL cannot change; {NEW_DEPLOYMENT}",
    ),
    ("ModelDeployment", DEPLOYMENT, {"openAI": {"organization": "o"}}, f"organization cannot change; {NEW_DEPLOYMENT}"),
    ("ModelDeployment", DEPLOYMENT, {"openAI": {"project": "p"}}, f"project cannot change; {NEW_DEPLOYMENT}"),
    (
        "ModelDeployment",
        FULL_OPENAI,
        {"openAI": {"organization": None}},
        f"organization cannot change; {NEW_DEPLOYMENT}",
    ),
    ("ModelDeployment", FULL_OPENAI, {"openAI": {"project": "q"}}, f"project cannot change; {NEW_DEPLOYMENT}"),
    (
        "ModelDeployment",
        AZURE_DEPLOYMENT,
        {"azureOpenAI": {"endpoint": "https://west.openai.azure.com"}},
        f"endpoint cannot change; {NEW_DEPLOYMENT}",
    ),
]

TAKEN_CHANGES: list[tuple[str, Change, Change]] = [
    ("BatchJob", JOB, {"suspend": True}),
    ("BatchJob", {**JOB, "suspend": True}, {"suspend": False}),
    ("BatchJob", JOB, {"cancel": True}),
    ("BatchJob", JOB, {"activeDeadlineSeconds": 60}),
    ("BatchJob", {**JOB, "activeDeadlineSeconds": 60}, {"activeDeadlineSeconds": 90}),
    ("BatchJob", JOB, {"ttlSecondsAfterFinished": 0}),
    ("BatchJob", JOB, {"backoffLimit": 0}),
    ("BatchJob", JOB, {"deletionPolicy": "Retain"}),
    ("BatchFile", FILE, {"deletionPolicy": "Retain"}),
    ("BatchFile", URL_FILE, {"source": {"credentialsSecretRef": {"name": "other"}}}),
    (
        "BatchFile",
        {**FILE, "source": {"url": "s3://bucket/key"}},
        {"source": {"credentialsSecretRef": {"name": "new"}}},
    ),
    ("ModelDeployment", DEPLOYMENT, {"modelName": "n"}),
    ("ModelDeployment", DEPLOYMENT, {"openAI": {"model": "gpt-4o"}}),
    ("ModelDeployment", DEPLOYMENT, {"openAI": {"auth": {"secretKeyRef": {"name": "rotated"}}}}),
    ("ModelDeployment", AZURE_DEPLOYMENT, {"azureOpenAI": {"deployment": "e", "apiVersion": "2025-04-01-preview"}}),
    ("ModelDeployment", DEPLOYMENT, {"weight": 7}),
    ("ModelDeployment", DEPLOYMENT, {"limits": {"maxActiveBatches": 2, "maxFileBytes": "1Mi"}}),
    ("ModelDeployment", DEPLOYMENT, {"pricing": {"inputPerMillionTokens": "0.1", "outputPerMillionTokens": "0.2"}}),
    ("ModelDeployment", DEPLOYMENT, {"allowedNamespaces": {"from": "All"}}),
    ("ModelDeployment", DEPLOYMENT, {"suspend": True}),
]
