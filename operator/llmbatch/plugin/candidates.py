"""What a word on the command line can become: commands, options, their values, and names from the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from llmbatch.plugin.cli import COMMANDS, EVERYWHERE
from llmbatch.plugin.options import Where

CLUSTER_SECONDS = 3.0
MOST = 500
"""Names that are asked of the cluster: nobody reads more."""

Live = Literal["job", "namespace", "deployment", "model", "context"]


class Answer(NamedTuple):
    """The words that fit, or that file names do."""

    words: list[str]
    files: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a command: its flags (none: an argument), whether it takes a value, and which."""

    flags: tuple[str, ...]
    metavar: str
    value: bool
    choices: tuple[str, ...] = ()


@dataclass
class Typed:
    """What stands before the word that is completed."""

    arguments: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    awaiting: Parameter | None = None
    """The option whose value comes next."""

    @property
    def where(self) -> Where:
        """The cluster that was meant so far."""

        def first(*flags: str) -> str | None:
            return next((self.options[flag] for flag in flags if flag in self.options), None)

        return Where(first("--namespace", "-n"), first("--context"), first("--kubeconfig"))


Ask = Callable[[Live, Where], list[str]]
LIVE_OPTIONS: dict[str, Live] = {
    "--namespace": "namespace", "--shared-namespace": "namespace", "--context": "context", "--model": "model",
    "--deployment": "deployment",
}  # fmt: skip
LIVE_ARGUMENTS: dict[str, Live] = {"JOB": "job"}
FILES = ("FILE",)


def candidates(words: Sequence[str], ask: Ask) -> Answer:
    """What the last of ``words`` can become; they are those behind ``kubectl llmbatch``. ``ask`` knows the cluster."""
    # Bash takes an equals sign for a word of its own.
    *before, last = [word for word in words[:-1] if word != "="] + [words[-1].removeprefix("=")]
    early = _early(before)
    if len(early) == len(before):
        return _before_command(early, last, ask)
    name, *rest = before[len(early) :]
    if name not in COMMANDS:
        return Answer([])
    parameters = parameters_of(name)
    typed = _typed([*early, *rest], parameters)
    if typed.awaiting:
        return _values(typed.awaiting, typed, last, ask)
    if last.startswith("--") and "=" in last:
        flag, _, begun = last.partition("=")
        found = next((one for one in parameters if flag in one.flags and one.value), None)
        answer = _values(found, typed, begun, ask) if found else Answer([])
        return answer._replace(words=[f"{flag}={word}" for word in answer.words])
    if last.startswith("-"):
        flags = [flag for one in parameters for flag in one.flags if flag.startswith("--")]
        return _fitting([*flags, "--help"], last)
    return _argument(parameters, typed, last, ask)


def _early(before: Sequence[str]) -> Sequence[str]:
    """The options before the command's name, with their values."""
    end = 0
    while end < len(before) and before[end].startswith("-"):
        end += 1 if "=" in before[end] or before[end] not in EVERYWHERE else 2
    return before[:end]


def _before_command(early: Sequence[str], last: str, ask: Ask) -> Answer:
    shared = [one for one in parameters_of("models") if set(one.flags) & set(EVERYWHERE)]
    typed = _typed(early, shared)
    if typed.awaiting:
        return _values(typed.awaiting, typed, last, ask)
    flags = [flag for one in shared for flag in one.flags if flag.startswith("--")]
    return _fitting([*flags, "--help", "--version"] if last.startswith("-") else COMMANDS, last)


def parameters_of(command: str) -> list[Parameter]:
    """The parameters of a command, from its function's own annotations."""
    place = COMMANDS[command]
    function = getattr(import_module(f"llmbatch.plugin.commands.{place.module}"), place.function)
    hints = get_type_hints(function, include_extras=True)
    return [made for hint in hints.values() if (made := _parameter(hint))]


def _parameter(hint: Any) -> Parameter | None:
    if not hasattr(hint, "__metadata__"):
        return None
    type_, (info, *_) = hint.__origin__, hint.__metadata__
    if get_origin(type_) in (Union, UnionType):
        type_ = next(part for part in get_args(type_) if part is not NoneType)
    choices = tuple(str(one.value) for one in type_) if isinstance(type_, type) and issubclass(type_, Enum) else ()
    metavar = (getattr(info, "metavar", None) or "").strip("[].")
    if isinstance(info, ArgumentInfo):
        return Parameter((), metavar, True, choices)
    if not isinstance(info, OptionInfo):
        return None
    declared = [info.default] if isinstance(info.default, str) and info.default.startswith("-") else []
    flags = [part for flag in (*declared, *(info.param_decls or ())) for part in flag.split("/")]
    return Parameter(tuple(flags), metavar, type_ is not bool, choices)


def _typed(before: Iterable[str], parameters: Sequence[Parameter]) -> Typed:
    typed = Typed()
    by_flag = {flag: one for one in parameters for flag in one.flags}
    for word in before:
        if typed.awaiting:
            typed.options |= dict.fromkeys(typed.awaiting.flags, word)
            typed.awaiting = None
        elif word.startswith("-") and len(word) > 1:
            flag, equals, value = word.partition("=")
            found = by_flag.get(flag)
            if found and found.value and equals:
                typed.options |= dict.fromkeys(found.flags, value)
            elif found and found.value:
                typed.awaiting = found
        else:
            typed.arguments.append(word)
    return typed


def _values(option: Parameter, typed: Typed, last: str, ask: Ask) -> Answer:
    if option.metavar in FILES:
        return Answer([], files=True)
    live: Live | None = next((LIVE_OPTIONS[flag] for flag in option.flags if flag in LIVE_OPTIONS), None)
    words: Sequence[str] = ask(live, typed.where) if live else option.choices
    return _fitting(words, last)


def _argument(parameters: Sequence[Parameter], typed: Typed, last: str, ask: Ask) -> Answer:
    argument = next((one for one in parameters if not one.flags), None)
    if argument is None:
        return Answer([])
    if argument.metavar in FILES:
        return Answer([], files=True)
    live = LIVE_ARGUMENTS.get(argument.metavar)
    words: Sequence[str] = ask(live, typed.where) if live else argument.choices
    return _fitting([word for word in words if word not in typed.arguments], last)


def _fitting(words: Iterable[str], last: str) -> Answer:
    return Answer([word for word in words if word.startswith(last)])


def ask_cluster(what: Live, where: Where) -> list[str]:
    """Names from the cluster; none where it does not answer at once, or not to this user."""
    try:
        return asyncio.run(asyncio.wait_for(_ask(what, where), CLUSTER_SECONDS))
    except Exception:  # a shell is waiting for words; whatever went wrong is told when the command is run
        return []


async def _ask(what: Live, where: Where) -> list[str]:
    if what == "context":
        return _contexts(where)
    from llmbatch.api import BatchJob, ModelDeployment
    from llmbatch.kube.transport import Target
    from llmbatch.plugin.connection import connected

    async with connected(where) as connection:
        if what == "namespace":
            listed = await connection.stored_list(Target("v1", "namespaces"), {"limit": MOST})
            return [item["metadata"]["name"] for item in listed["items"]]
        if what == "job":
            names = connection.kube.list_metadata(BatchJob, connection.namespace, limit=MOST)
            return sorted([found.name async for found in names][:MOST])
        deployments = [found async for found in connection.kube.list(ModelDeployment, connection.namespace)]
    if what == "model":
        return sorted({found.spec.model_name for found in deployments})
    return sorted(f"{found.metadata.namespace}/{found.metadata.name}" for found in deployments)


def _contexts(where: Where) -> list[str]:
    """The contexts of the kubeconfig, or of all files of KUBECONFIG."""
    import os
    from pathlib import Path

    import yaml

    from llmbatch.kube.connect import DEFAULT_KUBECONFIG

    files = where.kubeconfig or os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG
    found = [
        context["name"]
        for file in files.split(os.pathsep)
        if file and Path(file).expanduser().is_file()
        for context in (yaml.safe_load(Path(file).expanduser().read_text()) or {}).get("contexts") or ()
    ]
    return sorted(set(found))
