"""What an emulator is told: its accounts, how fast and how badly they behave, and where their files lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, model_validator

from llmbatch.emulator.openai.processing.oddities import Oddity

Provider = Literal["openai", "azure"]
BatchState = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
]

MEBIBYTE = 1024 * 1024


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pace(_Strict):
    """How long a batch or a file stays in each state, in seconds."""

    validating_seconds: NonNegativeFloat = 0.5
    in_progress_seconds: NonNegativeFloat = 3.0
    finalizing_seconds: NonNegativeFloat = 0.5
    cancelling_seconds: NonNegativeFloat = 1.0
    file_processing_seconds: NonNegativeFloat = 0.5
    """Azure only: from the upload through `pending` and `running` to `processed`."""
    missing_input_seconds: NonNegativeFloat = 900.0
    """OpenAI only: a batch on a file that isn't there is accepted and fails a quarter of an hour later."""

    def scaled(self, factor: float) -> Pace:
        """The same pace with every duration multiplied by `factor`."""
        return Pace(**{name: value * factor for name, value in self.model_dump().items()})


class TokenLimit(_Strict):
    """The enqueued-token limit of one model or deployment, and which of the two ways it is enforced in."""

    enqueued_limit: int = Field(ge=0)
    mode: Literal["create_429", "batch_failed"] = "batch_failed"
    status: Literal[400, 429] = 429
    """The status of the refusal in mode `create_429`."""


class Behaviour(_Strict):
    """How an account behaves; `None` stands for what the account's provider does by itself."""

    pace: Pace = Field(default_factory=Pace)
    hold: bool | BatchState = False
    """A state that batches don't leave until it is released; `true` is `in_progress`."""
    fail_lines: float | Literal["all"] | list[str] = 0.0
    """Which requests fail: a fraction, all of them, or those with these `custom_id`s."""
    fail_style: Literal["response", "error"] = "response"
    """A failed line carries a response of status 400, or no response and an error object."""
    expire: bool = False
    """OpenAI only: the completion window ends when `in_progress_seconds` are over."""
    expire_after_seconds: NonNegativeFloat = 86_400.0
    completed_fraction: float = Field(default=0.5, ge=0, le=1)
    """How much of an expired batch was done."""
    token_limit: TokenLimit | None = None
    max_active_batches: PositiveInt | None = None
    creates_per_hour: PositiveInt | None = None
    list_order: Literal["newest", "shuffled"] = "newest"
    list_lag_seconds: NonNegativeFloat = 0.0
    not_found_after_create_seconds: NonNegativeFloat = 0.0
    """A batch younger than this is answered with 404, though it is listed."""
    clock_skew_seconds: float = 0.0
    empty_error_file: bool | None = None
    nulls_as_empty_strings: bool | None = None
    capitalised_states: bool = False
    careless: bool = False
    """As an API writes that is only nearly compatible: ids that are paths, `{}` for no file, numbers as text, states in
    words of its own, lists without `has_more`."""
    lock_files_in_use: bool = False
    """Deleting the input of a batch that is not over is refused with 409."""
    files_without_expiry: int | None = None
    """How many files may lie there without `expires_after` (Azure: 500)."""
    max_file_bytes: PositiveInt = 200 * MEBIBYTE
    max_requests: PositiveInt = 50_000
    cached_fraction: float = Field(default=0.0, ge=0, le=1)
    reasoning_tokens: int = Field(default=0, ge=0)
    odd_lines: dict[str, Oddity] = Field(default_factory=dict)
    """What is odd about the answers to the requests with these `custom_id`s."""
    failures_in_output: bool = False
    """Failed lines stand among the answers, and there is no error file."""
    shuffled_output: bool = True
    seed: int = 0

    def patched(self, changes: dict[str, Any]) -> Behaviour:
        """This behaviour with some fields changed; a pace may be given in part, or field by field.

        Raises pydantic's ValidationError (a ValueError) for what no behaviour has.
        """
        changes = dict(changes)
        pace = {**self.pace.model_dump(), **(changes.pop("pace", None) or {})}
        pace |= {name: changes.pop(name) for name in list(changes) if name in Pace.model_fields}
        return Behaviour.model_validate({**self.model_dump(), **changes, "pace": pace})


class AccountSettings(_Strict):
    """One account of a provider: who may enter, the models it has, and how it behaves."""

    name: str = Field(min_length=1)
    provider: Provider
    resource: str | None = None
    """Azure only: the path prefix, which stands for the resource's host name."""
    keys: list[str] = Field(min_length=1)
    organization: str | None = None
    project: str | None = None
    models: list[str] | None = None
    """OpenAI only: the models it may use; absent: those the emulator knows."""
    deployments: dict[str, str] = Field(default_factory=dict)
    """Azure only: the deployments by name, each with the model behind it."""
    behaviour: Behaviour = Field(default_factory=Behaviour)

    @model_validator(mode="before")
    @classmethod
    def _fold_behaviour(cls, data: Any) -> Any:
        """Let a behaviour's fields be written beside the account's own."""
        if not isinstance(data, dict):
            return data
        own = {name: value for name, value in data.items() if name in cls.model_fields and name != "behaviour"}
        rest = {name: value for name, value in data.items() if name not in cls.model_fields}
        given = data.get("behaviour") or {}
        if isinstance(given, Behaviour):
            given = given.model_dump()
        return {**own, "behaviour": Behaviour().patched({**given, **rest})}

    @model_validator(mode="after")
    def _belongs(self) -> Self:
        if (self.provider == "azure") != (self.resource is not None):
            raise ValueError("an Azure account needs a resource, and an OpenAI account has none")
        if self.provider == "azure" and self.behaviour.expire:
            raise ValueError("Azure does not expire batches that take long; use an OpenAI account")
        return self


class EmulatorSettings(_Strict):
    """All that one emulator is started with."""

    accounts: list[AccountSettings] = Field(default_factory=list)
    spool_folder: Path | None = None
    """Where file contents are kept while it runs; absent: a temporary folder, removed at the end."""

    def at_pace(self, factor: float) -> EmulatorSettings:
        """The same accounts, every duration multiplied by `factor`."""
        accounts = [
            account.model_copy(
                update={
                    "behaviour": account.behaviour.model_copy(update={"pace": account.behaviour.pace.scaled(factor)})
                }
            )
            for account in self.accounts
        ]
        return self.model_copy(update={"accounts": accounts})


def default_settings() -> EmulatorSettings:
    """An OpenAI account and two Azure resources, for people who give no configuration."""
    accounts = [AccountSettings(name="openai", provider="openai", keys=["emulator-openai-key"])]
    accounts += [
        AccountSettings(
            name=resource,
            provider="azure",
            resource=resource,
            keys=[f"emulator-{resource}-key"],
            deployments={"gpt-4o-mini-batch": "gpt-4o-mini", f"gpt-4o-mini-{resource}": "gpt-4o-mini"},
        )
        for resource in ("east", "west")
    ]
    return EmulatorSettings(accounts=accounts)


def read_settings(path: Path) -> EmulatorSettings:
    """The settings in a YAML file: `{accounts: [{name, provider, keys, …}]}`.

    Raises OSError, yaml.YAMLError, or pydantic's ValidationError.
    """
    return EmulatorSettings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
