"""What may be asked for in `POST /batches`, and the refusals of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from llmbatch.emulator.exchanges import Exchange
from llmbatch.emulator.openai.files import check_expires_after

KNOWN = frozenset({"input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"})
REQUIRED = ("input_file_id", "endpoint", "completion_window")
MOST_ENTRIES, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512
LONGEST_BODY = 1024 * 1024
TYPES = {bool: "a boolean", int: "an integer", float: "a decimal", list: "an array", dict: "an object"}


@dataclass(frozen=True)
class BatchRequest:
    """A request that is well-formed. `output_ttl` is in seconds."""

    input_file_id: str
    endpoint: str
    metadata: dict[str, str] | None
    output_ttl: int | None

    def subject(self) -> dict[str, Any]:
        """What a fault can be matched against."""
        return {"input_file_id": self.input_file_id, "endpoint": self.endpoint, "metadata": self.metadata or {}}


async def read_batch_request(exchange: Exchange) -> BatchRequest:
    """The request in a body. Raises Refusal."""
    dialect = exchange.dialect
    raw = await exchange.request.content.read(LONGEST_BODY)
    while not exchange.request.content.at_eof() and len(raw) < LONGEST_BODY:
        raw += await exchange.request.content.read(LONGEST_BODY)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise dialect.invalid("We could not parse the JSON body of your request.", code=None, param=None)
    for name in REQUIRED:
        if name not in body:
            raise dialect.invalid(
                f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name
            )
        _check_text(exchange, name, body[name])
    for name in sorted(body.keys() - KNOWN):
        raise dialect.invalid(f"Unknown parameter: '{name[:64]}'.", code="unknown_parameter", param=name[:64])
    _check_one_of(exchange, "endpoint", body["endpoint"], list(dialect.endpoints))
    _check_one_of(exchange, "completion_window", body["completion_window"], ["24h"])
    return BatchRequest(
        input_file_id=body["input_file_id"],
        endpoint=body["endpoint"],
        metadata=_metadata(exchange, body.get("metadata")),
        output_ttl=_output_ttl(exchange, body.get("output_expires_after")),
    )


def _metadata(exchange: Exchange, metadata: Any) -> dict[str, str] | None:
    """OpenAI: at most 16 entries, keys of 64 characters, values of 512, strings only."""
    if metadata is None:
        return None
    invalid = exchange.dialect.invalid
    if not isinstance(metadata, dict):
        raise invalid(
            f"Invalid type for 'metadata': expected an object, but got {_type(metadata)} instead.",
            code="invalid_type",
            param="metadata",
        )
    if len(metadata) > MOST_ENTRIES:
        raise invalid(
            f"Invalid 'metadata': too many properties. Expected an object with at most {MOST_ENTRIES} properties, "
            f"but got an object with {len(metadata)} properties instead.",
            code="object_above_max_properties",
            param="metadata",
        )
    for key, value in metadata.items():
        if len(key) > LONGEST_KEY:
            raise invalid(
                f"Invalid 'metadata': property name too long. Expected a property name with maximum length "
                f"{LONGEST_KEY}, but got a property name with length {len(key)} instead.",
                code="invalid_property_name",
                param="metadata",
            )
        _check_text(exchange, f"metadata.{key}", value)
        if len(value) > LONGEST_VALUE:
            raise invalid(
                f"Invalid 'metadata.{key}': string too long. Expected a string with maximum length {LONGEST_VALUE}, "
                f"but got a string with length {len(value)} instead.",
                code="string_above_max_length",
                param=f"metadata.{key}",
            )
    return dict(metadata)


def _output_ttl(exchange: Exchange, given: Any) -> int | None:
    if given is None:
        return None
    name = "output_expires_after"
    if not isinstance(given, dict) or given.keys() != {"anchor", "seconds"}:
        raise exchange.dialect.invalid(
            f"Invalid '{name}': expected an object with 'anchor' and 'seconds'.", code="invalid_type", param=name
        )
    bounds = exchange.dialect.file_ttl
    return check_expires_after(exchange, given["anchor"], given["seconds"], name, bounds)


def _check_text(exchange: Exchange, name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise exchange.dialect.invalid(
            f"Invalid type for '{name}': expected a string, but got {_type(value)} instead.",
            code="invalid_type",
            param=name,
        )


def _check_one_of(exchange: Exchange, name: str, value: str, allowed: list[str]) -> None:
    if value not in allowed:
        listed = ", ".join(f"'{choice}'" for choice in allowed)
        raise exchange.dialect.invalid(
            f"Invalid value: '{value[:64]}'. Supported values are: {listed}.", code="invalid_value", param=name
        )


def _type(value: Any) -> str:
    return TYPES.get(type(value), "null" if value is None else "a string")
