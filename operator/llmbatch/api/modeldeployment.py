"""ModelDeployment: one place that can run a model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from llmbatch.api.base import (
    AGE,
    VISIBLE,
    Conditions,
    Decimal,
    KeyReference,
    Model,
    ModelName,
    Quantity,
    Resource,
    Time,
    column,
    immutable,
    validations,
)

NEW_DEPLOYMENT = "make a new ModelDeployment instead, running jobs rely on this one"

APIVersion = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?$", max_length=32)]
_HOST = r"([a-zA-Z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?"
# Spelled out: the classes \s and \w mean ASCII to the API server and Unicode to Python.
_PATH = r"(/[a-zA-Z0-9._~!$&'()*+,;=:@%/-]*)?"
Endpoint = Annotated[str, Field(pattern=f"^https?://{_HOST}{_PATH}$", min_length=8, max_length=512)]


class Auth(Model):
    """Where the provider's key is."""

    secret_key_ref: KeyReference = Field(
        description="The Secret key that holds the provider's API key. May be renamed or rotated at any time."
    )


class OpenAIProvider(Model):
    """The OpenAI API, or one that is compatible with its Files and Batches APIs."""

    model_config = ConfigDict(
        json_schema_extra=validations(immutable("baseURL", "organization", "project", advice=NEW_DEPLOYMENT))
    )

    base_url: Endpoint = Field(
        default="https://api.openai.com/v1",
        description="Base URL of the API, with its version path. Cannot change.",
    )
    model: Annotated[str, Field(min_length=1, max_length=256, pattern=VISIBLE)] = Field(
        description="The provider's model name. It replaces the model name in every line."
    )
    organization: Annotated[str, Field(min_length=1, max_length=256, pattern=VISIBLE)] | None = Field(
        default=None, description="Sent as OpenAI-Organization. Cannot change."
    )
    project: Annotated[str, Field(min_length=1, max_length=256, pattern=VISIBLE)] | None = Field(
        default=None, description="Sent as OpenAI-Project. Cannot change."
    )
    auth: Auth = Field(description="The key to the API.")


class AzureOpenAIProvider(Model):
    """An Azure OpenAI resource and one of its Global-Batch or Data-Zone-Batch deployments."""

    model_config = ConfigDict(json_schema_extra=validations(immutable("endpoint", advice=NEW_DEPLOYMENT)))

    endpoint: Endpoint = Field(description="The resource, e.g. https://east.openai.azure.com. Cannot change.")
    deployment: Annotated[str, Field(min_length=1, max_length=256, pattern=VISIBLE)] = Field(
        description="Name of the deployment in Azure. It replaces the model name in every line."
    )
    api_version: APIVersion | None = Field(
        default=None, description="A dated api-version for the classic API. Absent: the /openai/v1 API."
    )
    auth: Auth = Field(description="The key to the resource.")


class Limits(Model):
    """What this deployment may be asked for. Absent limits are the provider's own."""

    max_requests_per_file: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="Most requests in one input file. OpenAI and Azure OpenAI: 50000."
    )
    max_file_bytes: Quantity | None = Field(
        default=None, description="Largest input file, e.g. 200Mi. OpenAI and Azure OpenAI: 200 MB."
    )
    max_enqueued_tokens: Annotated[int, Field(ge=1, le=1_000_000_000_000_000)] | None = Field(
        default=None, description="Most input tokens in unfinished batches. Jobs wait for headroom beyond it."
    )
    max_active_batches: Annotated[int, Field(ge=1, le=1_000_000_000_000_000)] | None = Field(
        default=None, description="Most unfinished batches. Jobs wait for headroom beyond it."
    )


class Pricing(Model):
    """Batch prices as paid, in USD. They win over the price list."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            {
                "rule": "has(self.inputPerMillionTokens) == has(self.outputPerMillionTokens)",
                "message": "set inputPerMillionTokens and outputPerMillionTokens together",
            },
            {
                "rule": "!has(self.cachedInputPerMillionTokens) || has(self.inputPerMillionTokens)",
                "message": "cachedInputPerMillionTokens needs inputPerMillionTokens and outputPerMillionTokens",
            },
        )
    )

    model: Annotated[str, Field(min_length=1, max_length=256, pattern=VISIBLE)] | None = Field(
        default=None, description="The model to look up in the price list where the answers do not name it."
    )
    input_per_million_tokens: Decimal | None = Field(
        default=None, description="USD for a million input tokens, e.g. 0.075."
    )
    cached_input_per_million_tokens: Decimal | None = Field(
        default=None, description="USD for a million cached input tokens. Absent: the input price."
    )
    output_per_million_tokens: Decimal | None = Field(
        default=None, description="USD for a million output tokens, reasoning included."
    )


class LabelSelectorRequirement(Model):
    """One expression of a label selector."""

    key: Annotated[str, Field(min_length=1, max_length=317)] = Field(description="Label key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How the values are compared.")
    values: Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=64)] = Field(
        default=[], description="Label values, for In and NotIn."
    )


class LabelSelector(Model):
    """Selects namespaces by label, as in ``metav1.LabelSelector``."""

    match_labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=64)] = Field(
        default={}, description="Labels that must be there with these values."
    )
    match_expressions: Annotated[list[LabelSelectorRequirement], Field(max_length=64)] = Field(
        default=[], description="Expressions that must all hold."
    )


class AllowedNamespaces(Model):
    """Which namespaces' files and jobs this deployment admits."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            {
                "rule": "(self.from == 'Selector') == has(self.selector)",
                "message": "set selector exactly when from is Selector",
            }
        )
    )

    from_: Literal["Same", "All", "Selector"] = Field(
        default="Same",
        description="Same: this namespace. All: every namespace. Selector: those with matching labels. "
        "All and Selector count only in namespaces that the administrator shares.",
    )
    selector: LabelSelector | None = Field(default=None, description="Labels of the namespaces, with from: Selector.")


class ModelDeploymentSpec(Model):
    """What the platform team declares."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            {
                "rule": "(has(self.openAI) ? 1 : 0) + (has(self.azureOpenAI) ? 1 : 0) == 1",
                "message": "set exactly one provider: openAI or azureOpenAI",
            },
            {
                "rule": "has(self.openAI) == has(oldSelf.openAI)",
                "message": f"the provider's kind cannot change; {NEW_DEPLOYMENT}",
            },
        )
    )

    model_name: ModelName = Field(
        description="The public name of the model. Deployments with the same name share its jobs."
    )
    open_ai: OpenAIProvider | None = Field(default=None, description="Run it on OpenAI.")
    azure_open_ai: AzureOpenAIProvider | None = Field(default=None, description="Run it on Azure OpenAI.")
    weight: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="Share of new jobs among the deployments of the model. 0: only jobs that pin it."
    )
    limits: Limits = Field(
        default_factory=Limits,
        description="Bounds on what this deployment is given.",
        json_schema_extra={"default": {}},
    )
    pricing: Pricing | None = Field(default=None, description="Batch prices as paid. Absent: the price list.")
    allowed_namespaces: AllowedNamespaces = Field(
        default_factory=lambda: AllowedNamespaces(from_="Same"),
        description="Who may use it, as in the Gateway API.",
        json_schema_extra={"default": {"from": "Same"}},
    )
    suspend: bool = Field(default=False, description="Drain: no new work; running work is still followed.")


class ModelDeploymentStatus(Model):
    """What the operator saw."""

    observed_generation: int | None = Field(default=None, description="The generation this status describes.")
    conditions: Conditions = Field(default=[], description="Ready, Reconciling, Stalled.")
    provider: str | None = Field(default=None, max_length=32, description="The provider's kind: OpenAI or AzureOpenAI.")
    active_batches: int | None = Field(default=None, description="Unfinished batches of this operator's jobs.")
    enqueued_tokens: int | None = Field(default=None, description="Estimated input tokens in those batches.")
    last_probe_time: Time | None = Field(default=None, description="When the provider was last asked.")


class ModelDeployment(Resource):
    """One place that can run a model. Deployments with the same modelName share the jobs of that model."""

    KIND: ClassVar[str] = "ModelDeployment"
    PLURAL: ClassVar[str] = "modeldeployments"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ("mdep",)
    COLUMNS: ClassVar = (
        column("Model", ".spec.modelName"),
        column("Provider", ".status.provider"),
        column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        column("Reason", ".status.conditions[?(@.type=='Ready')].reason", priority=1),
        column("Active", ".status.activeBatches", "integer"),
        AGE,
    )

    spec: ModelDeploymentSpec = Field(description="What the platform team declares.")
    status: ModelDeploymentStatus = Field(default_factory=ModelDeploymentStatus, description="What the operator saw.")
