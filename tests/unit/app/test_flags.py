"""The options of ``run`` are those of the settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from typer.testing import CliRunner

from llmbatch.app.cli import main
from llmbatch.app.flags import flags_of
from llmbatch.app.settings import Settings


class Kitchen(BaseSettings):
    """Settings with a field of each type."""

    model_config = SettingsConfigDict(env_prefix="KITCHEN_")

    dish: Annotated[tuple[str, ...], NoDecode] = Field((), description="What to cook; repeatable.")
    hot: bool = Field(True, description="Whether to heat.")
    minutes: float = Field(4.0, description="How long.")
    cook_name: str = Field("", description="Who cooks. Default: nobody.")

    @field_validator("dish", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value


def given(*arguments: str) -> dict[str, Any]:
    """What a command gets that is called like this."""
    seen: dict[str, Any] = {}
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @flags_of(Kitchen)
    def cook(**flags: Any) -> None:
        seen.update(flags)

    assert CliRunner().invoke(app, list(arguments)).exit_code == 0
    return seen


def test_a_command_gets_what_was_given_and_none_for_the_rest():
    """Only then can a variable stand in for a flag that is not there."""
    nothing = {"dish": None, "hot": None, "minutes": None, "cook_name": None}

    assert given() == nothing
    assert given("--dish", "soup", "--dish", "rice", "--no-hot", "--minutes", "2.5", "--cook-name", "me") == {
        "dish": ["soup", "rice"],
        "hot": False,
        "minutes": 2.5,
        "cook_name": "me",
    }


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_help_tells_each_setting_with_its_variable(name: str):
    """Nobody needs the documentation to find a flag."""
    told = " ".join(CliRunner().invoke(main, ["run", "--help"], terminal_width=10_000).output.split())

    assert f"--{name.replace('_', '-')} " in told
    assert f"[env: LLMBATCH_{name.upper()}]" in told
    assert str(Settings.model_fields[name].description) in told


@pytest.mark.parametrize(
    ("arguments", "variables"), [(["--poll-interval", "0.01"], {}), ([], {"LLMBATCH_POLL_INTERVAL": "0.01"})]
)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_flag(arguments: list[str], variables: dict[str, str]):
    """A flag and its variable are checked by the same rule, and the process ends before it has begun."""
    ended = CliRunner().invoke(main, ["run", *arguments], env=variables)

    assert ended.exit_code == 2
    assert ended.stderr == "--poll-interval: Input should be greater than or equal to 0.2\n"


def test_the_documentation_tells_each_default():
    """The table of flags has the values that the settings have; an empty one is told in words."""
    row = re.compile(r"^\| `--([a-z-]+)` \| `LLMBATCH_[A-Z_]+` \| (.+?) \|", re.MULTILINE)
    page = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"
    told = {flag.replace("-", "_"): default.strip("`") for flag, default in row.findall(page.read_text())}
    values = {name: field.default for name, field in Settings.model_fields.items() if field.default not in ("", ())}

    assert {name: told[name] for name in values} == {
        name: "yes" if value is True else f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in values.items()
    }
