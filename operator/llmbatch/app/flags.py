"""A command's options made from settings, so that flag, variable, default and help have one source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import Parameter, Signature
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

Command = TypeVar("Command", bound=Callable[..., object])


def flags_of(settings: type[BaseSettings]) -> Callable[[Command], Command]:
    """Decorates a command with ``**flags``: each field of the settings is an option, None where it was not given.

    A list is an option that can be repeated, a bool a pair of options. Values are checked by the settings themselves,
    so that a flag and its variable are refused alike.
    """

    def decorate(command: Command) -> Command:
        prefix = settings.model_config.get("env_prefix", "")
        options = [_option(name, field, prefix) for name, field in settings.model_fields.items()]
        setattr(command, "__signature__", Signature(options))  # noqa: B010  (a function has no such attribute to pyright)
        return command

    return decorate


def refusals(error: ValidationError) -> Iterator[str]:
    """A line for each setting that was refused: its flag and why."""
    for found in error.errors(include_url=False, include_input=False):
        yield f"{_flag(str(found['loc'][0]))}: {found['msg'].removeprefix('Value error, ')}"


def _option(name: str, field: FieldInfo, prefix: str) -> Parameter:
    flag = _flag(name)
    default: Any = field.default
    if isinstance(default, bool):
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    type_ = list[str] if isinstance(default, tuple) else type(default)
    told = f"{field.description}{_told(default)} [env: {prefix}{name.upper()}]"
    metavar = None if type_ is bool else "NUMBER" if type_ in (int, float) else "TEXT"
    option = Annotated[type_ | None, typer.Option(flag, help=told, metavar=metavar, show_default=False)]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=option)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _told(default: object) -> str:
    """The default in words; an empty one is told by the description, since it is no value."""
    match default:
        case "" | ():
            return ""
        case bool():
            return f" Default: {'yes' if default else 'no'}."
        case float():
            return f" Default: {default:g}."
        case _:
            return f" Default: {default}."
