"""The accounts: what each holds, who may enter it, and how its batches come to an end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from llmbatch.emulator.call_log import CallLog
from llmbatch.emulator.faults import Faults
from llmbatch.emulator.openai.azure import Azure
from llmbatch.emulator.openai.dialects import Dialect
from llmbatch.emulator.openai.objects import Batch, Catalogue, Outcome, StoredFile
from llmbatch.emulator.openai.openai import OpenAI
from llmbatch.emulator.openai.processing import lifecycle
from llmbatch.emulator.openai.processing.answers import Model
from llmbatch.emulator.openai.processing.results import Run, write_results
from llmbatch.emulator.settings import MEBIBYTE, AccountSettings, Behaviour
from llmbatch.emulator.spool import Spool

Clock = Callable[[], float]
"""Seconds since the epoch."""

IN_A_THREAD = 2 * MEBIBYTE
"""Inputs above this are answered outside the event loop."""


class Account:
    """What one account holds. Its methods take the time, and bring what they touch up to it."""

    def __init__(self, settings: AccountSettings, dialect: Dialect, spool: Spool) -> None:
        self.settings = settings
        self._dialect = dialect
        self.files: Catalogue[StoredFile] = Catalogue(settings.behaviour.seed)
        self.batches: Catalogue[Batch] = Catalogue(settings.behaviour.seed)
        self.calls = CallLog()
        self.faults = Faults()
        self.retired_keys: set[str] = set()
        self.creations: deque[float] = deque()
        self._active: dict[str, Batch] = {}
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._spool = spool

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves now."""
        return self.settings.behaviour

    def change(self, settings: AccountSettings, now: float) -> None:
        """Take other settings, keeping everything it holds; keys that went are remembered as retired."""
        for batch in self.active(now):
            # What was seen so far stays true: a faster pace ends a state now, and not in the past.
            batch.not_before = now
        self.retired_keys = (self.retired_keys | set(self.settings.keys)) - set(settings.keys)
        self.settings = settings

    def active(self, now: float) -> list[Batch]:
        """The batches that are not over at `now`."""
        for batch in list(self._active.values()):
            self.look(batch, now)
        return list(self._active.values())

    def look(self, batch: Batch, now: float) -> Batch:
        """Bring one batch up to the time."""
        lifecycle.advance(batch, self.behaviour, self.settings.provider, now)
        if batch.is_over:
            self._active.pop(batch.id, None)
        return batch

    def add_batch(self, batch: Batch) -> None:
        """Take in a new batch."""
        self.batches.add(batch)
        if not batch.is_over:
            self._active[batch.id] = batch

    def live_file(self, file_id: str, now: float) -> StoredFile | None:
        """The file, unless it is gone."""
        file = self.files.get(file_id)
        return file if file is not None and file.is_there(now) else None

    def in_use(self, file: StoredFile, now: float) -> bool:
        """Whether a batch that is not over reads this file."""
        return any(batch.input is file for batch in self.active(now))

    def drop_file(self, file: StoredFile) -> None:
        """Delete a file; its content stays until no batch needs it any more."""
        file.gone = True
        self._release(file)

    async def settle(self, batches: Iterable[Batch]) -> None:
        """Make the results of those batches that have come to an end and have none yet."""
        for batch in batches:
            if not batch.is_over or batch.outcome is not None or batch.input is None or batch.state == "failed":
                continue
            if "in_progress" not in batch.entered:
                batch.outcome = Outcome()
                self._release(batch.input)
                continue
            if batch.id not in self._settling:
                self._settling[batch.id] = asyncio.create_task(self._produce(batch, batch.input))
            await asyncio.shield(self._settling[batch.id])

    async def _produce(self, batch: Batch, source: StoredFile) -> None:
        output, errors = self._spool.new_path(), self._spool.new_path()
        run = self._run(batch)
        try:
            if source.size > IN_A_THREAD:
                outcome = await asyncio.to_thread(write_results, source.path, output, errors, run)
            else:
                outcome = write_results(source.path, output, errors, run)
        finally:
            del self._settling[batch.id]
        outcome.output = self._keep(batch, output, "output", even_if_empty=False)
        empty = self.behaviour.empty_error_file
        # Microsoft: a successful job has an error file too, of zero bytes.
        azure = self.settings.provider == "azure"
        outcome.errors = self._keep(batch, errors, "error", even_if_empty=azure if empty is None else empty)
        batch.outcome = outcome
        self._release(source)

    def _keep(self, batch: Batch, path: Path, name: str, *, even_if_empty: bool) -> str | None:
        """Make a file of the account out of a result; its id."""
        size = path.stat().st_size
        if size == 0 and not even_if_empty:
            path.unlink()
            return None
        ttl = batch.output_ttl or self._dialect.default_file_ttl
        file = StoredFile(
            id=self._dialect.new_file_id(),
            created=batch.since,
            filename=f"{batch.id}_{name}.jsonl",
            purpose="batch_output",
            size=size,
            path=path,
            expires=None if ttl is None else batch.since + ttl,
            expiry_asked=batch.output_ttl is not None,
        )
        self.files.add(file)
        return file.id

    def _run(self, batch: Batch) -> Run:
        behaviour = self.behaviour
        fails = behaviour.fail_lines
        model = Model(batch.model or "", batch.kind, behaviour.cached_fraction, behaviour.reasoning_tokens)
        return Run(
            batch_id=batch.id,
            model=model,
            created=int(batch.since),
            done=batch.done,
            cut_short="batch_expired" if batch.state == "expired" else "batch_cancelled",
            fail_fraction=1.0 if fails == "all" else fails if isinstance(fails, float) else 0.0,
            fail_ids=frozenset(fails) if isinstance(fails, list) else frozenset(),
            fail_style=behaviour.fail_style,
            odd_lines=behaviour.odd_lines,
            failures_in_output=behaviour.failures_in_output,
            shuffled=behaviour.shuffled_output,
            seed=behaviour.seed,
        )

    def _release(self, file: StoredFile) -> None:
        """Remove the content of a file that is gone, unless a batch still has to read it."""
        if not file.gone:
            return
        needed = any(
            batch.input is file and batch.outcome is None and batch.state != "failed" for batch in self.batches
        )
        if not needed:
            file.path.unlink(missing_ok=True)


class Directory:
    """All accounts, by name and by key."""

    def __init__(self, spool: Spool, clock: Clock) -> None:
        self.spool = spool
        self.clock = clock
        self.accounts: dict[str, Account] = {}
        self.strangers = 0
        """How many calls came with a key that no account ever had."""
        self._keys: dict[tuple[str | None, str], tuple[Account, int]] = {}
        self._retired: dict[tuple[str | None, str], Account] = {}

    def put(self, settings: AccountSettings) -> Account:
        """Make an account, or give one other settings. Raises ValueError when a key is another account's already."""
        for key in settings.keys:
            owner = self._keys.get((settings.resource, key))
            if owner and owner[0].settings.name != settings.name:
                raise ValueError(f"account {owner[0].settings.name} has one of these keys already")
        account = self.accounts.get(settings.name)
        if account is None:
            dialect = OpenAI() if settings.provider == "openai" else Azure()
            account = self.accounts[settings.name] = Account(settings, dialect, self.spool)
        elif account.settings.provider != settings.provider:
            raise ValueError("an account's provider can't be changed; delete it first")
        else:
            account.change(settings, self.clock())
        self._index()
        return account

    def remove(self, name: str) -> None:
        """Forget an account and everything it holds. Raises KeyError."""
        account = self.accounts.pop(name)
        for file in account.files:
            file.path.unlink(missing_ok=True)
        self._index()

    def has_resource(self, resource: str | None) -> bool:
        """Whether an account belongs to this Azure resource."""
        return any(account.settings.resource == resource for account in self.accounts.values())

    def enter(self, resource: str | None, key: str | None) -> tuple[Account, int] | None:
        """The account that a key opens at a resource (None: OpenAI), and which of its keys that is."""
        return self._keys.get((resource, key or ""))

    def formerly(self, resource: str | None, key: str | None) -> Account | None:
        """The account that a key opened before it was rotated away."""
        return self._retired.get((resource, key or ""))

    def _index(self) -> None:
        self._keys.clear()
        self._retired.clear()
        for account in self.accounts.values():
            resource = account.settings.resource
            self._keys |= {(resource, key): (account, at) for at, key in enumerate(account.settings.keys)}
            self._retired |= {(resource, key): account for key in account.retired_keys}
