"""The documentation says what there is, and nothing that there is not."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_args

from llmbatch.api.reasons import ConditionType, Reason
from llmbatch.app.cli import run
from llmbatch.domain.requests import validation as lines
from llmbatch.domain.results import cost
from llmbatch.emulator.call_log import OPERATIONS
from llmbatch.emulator.faults import FaultKind
from llmbatch.emulator.settings import AccountSettings, Behaviour, Pace

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "operator" / "llmbatch"
REASONS = "docs/troubleshooting.md"
ENTRY = re.compile(r"^\| `([A-Z]\w+)` \|", re.MULTILINE)
HEADED = re.compile(r"^### ([A-Z]\w+)\n\n(.*)", re.MULTILINE)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """A page's part below one heading."""
    return text_of(page).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_every_reason_has_its_entry_and_no_other_has_one():
    """Whoever meets a reason finds what it means and what to do, once."""
    parts = ("ModelDeployment", "BatchFile", "BatchJob", "BatchJob that ended")
    told = dict(entry for part in parts for entry in HEADED.findall(section(REASONS, part)))

    assert sorted(told) == sorted(reason.value for reason in Reason)
    assert [reason for reason, meaning in told.items() if not meaning.strip()] == []


def test_every_condition_type_is_explained():
    """Whoever meets a condition finds what its being True means."""
    types = section(REASONS, "Types")

    assert [found.value for found in ConditionType if f"| `{found.value}` |" not in types] == []


def test_every_reason_of_an_unknown_cost_has_its_entry():
    """Whoever has no cost finds why."""
    told = ENTRY.findall(section(REASONS, "Cost that is not known"))

    assert sorted(told) == sorted([cost.NO_BATCH_PRICE, cost.UNKNOWN_MODEL, cost.NO_MODALITY_PRICE, cost.USAGE_MISSING])


def test_every_reason_is_used():
    """A reason that the code never gives is not promised."""
    code = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))

    assert [reason.name for reason in Reason if not re.search(rf"\bReason\.{reason.name}\b", code)] == []


def test_every_event_is_told():
    """Whoever sees an Event finds what it tells."""
    code = "".join(path.read_text(encoding="utf-8") for path in (PACKAGE / "reconcile").glob("*.py"))
    given = re.findall(r'\.record\([^)]*?"(?:Normal|Warning)", "(\w+)"', code)
    told = section(REASONS, "Events")

    assert given
    assert [event for event in (*given, "BatchFinished", "JobFailed", "JobCancelled") if f"`{event}`" not in told] == []


def test_every_code_of_an_input_error_is_listed():
    """Whoever meets a code in status.errors finds what it is about."""
    code = text_of("operator/llmbatch/domain/requests/validation.py")
    given = {*re.findall(r'_Bad\(\s*"(\w+)"', code), *(f"missing_{key}" for key in lines.KEYS)}
    told = section(REASONS, "BatchFile").split("### Codes")[1]

    assert {found for found in re.findall(r"`([a-z0-9]+_\w+)`", told) if found not in lines.KEYS} == given


def test_every_flag_of_run_is_told_with_its_variable_and_no_other():
    """Whoever configures the operator finds every flag and its environment variable."""
    told = re.findall(r"^\| `(--[a-z-]+)` \| `(LLMBATCH_[A-Z_]+)` \|", text_of("docs/configuration.md"), re.MULTILINE)

    names = inspect.signature(run).parameters

    assert sorted(told) == sorted((f"--{name.replace('_', '-')}", f"LLMBATCH_{name.upper()}") for name in names)


def test_every_way_of_the_emulator_to_behave_is_told():
    """Whoever tests against the emulator finds every field of its behaviour and every fault."""
    page = text_of("docs/emulator.md")
    fields = {*Behaviour.model_fields, *Pace.model_fields, *AccountSettings.model_fields} - {"pace", "behaviour"}

    assert [name for name in (*fields, *get_args(FaultKind), *OPERATIONS) if f"`{name}`" not in page] == []
