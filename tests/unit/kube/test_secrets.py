"""Reading Secrets, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from llmbatch.api.reasons import Reason
from llmbatch.domain.errors import CredentialsError
from llmbatch.kube.errors import Unreachable
from llmbatch.kube.secrets import SecretReader
from support.virtual_time import VirtualClock, settle


class MemorySecrets:
    """Secrets by name, a count of the gets, and a gate that holds them up."""

    def __init__(self, **secrets: Mapping[str, bytes]) -> None:
        self.secrets = dict(secrets)
        self.gets = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.down = False

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        self.gets += 1
        found = self.secrets.get(name)
        await self.gate.wait()
        if self.down:
            raise Unreachable("the API server is unreachable")
        return found


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_a_key_is_stripped_and_kept_for_half_a_minute(clock: VirtualClock):
    """A trailing newline is nobody's key, and a burst of calls reads the Secret once."""
    kube = MemorySecrets(s={"key": b" sk-1\n"})
    reader = SecretReader(kube, clock)
    assert await reader.key("ns", "s", "key") == "sk-1"
    kube.secrets["s"] = {"key": b"sk-2"}
    await clock.advance(29.9)
    assert await reader.key("ns", "s", "key") == "sk-1"
    assert kube.gets == 1

    await clock.advance(0.1)

    assert await reader.key("ns", "s", "key") == "sk-2"


async def test_after_forget_it_is_read_at_once(clock: VirtualClock):
    """A key that a provider refused may have been rotated just now."""
    kube = MemorySecrets(s={"key": b"sk-1"})
    reader = SecretReader(kube, clock)
    await reader.key("ns", "s", "key")
    kube.secrets["s"] = {"key": b"sk-2"}
    reader.forget("ns", "s")

    assert await reader.key("ns", "s", "key") == "sk-2"


async def test_a_read_that_began_before_forget_is_not_kept(clock: VirtualClock):
    """An answer from before the rotation does not come back after the 401."""
    kube = MemorySecrets(s={"key": b"sk-1"})
    slow = kube.gate = asyncio.Event()
    reader = SecretReader(kube, clock)
    early = asyncio.create_task(reader.key("ns", "s", "key"))
    await settle()
    kube.secrets["s"] = {"key": b"sk-2"}
    kube.gate = asyncio.Event()
    kube.gate.set()
    reader.forget("ns", "s")
    late = await reader.key("ns", "s", "key")
    slow.set()

    assert (await early, late) == ("sk-1", "sk-2")
    assert await reader.key("ns", "s", "key") == "sk-2"


@pytest.mark.parametrize(
    ("name", "key", "reason"),
    [
        ("absent", "key", Reason.SECRET_NOT_FOUND),
        ("s", "absent", Reason.SECRET_KEY_NOT_FOUND),
        ("s", "empty", Reason.CREDENTIALS_INVALID),
        ("s", "two-lines", Reason.CREDENTIALS_INVALID),
        ("s", "binary", Reason.CREDENTIALS_INVALID),
        ("s", "long", Reason.CREDENTIALS_INVALID),
    ],
)
async def test_what_cannot_be_used_says_which_and_not_what(clock: VirtualClock, name: str, key: str, reason: Reason):
    """The message names Secret and key; no value, not even a bad one, is in it."""
    bad = {"empty": b" \n", "two-lines": b"sk-value\r\nX-Evil: sk-value", "binary": b"sk-value\xff"}
    kube = MemorySecrets(s={**bad, "long": b"sk-value" * 1025})
    with pytest.raises(CredentialsError) as caught:
        await SecretReader(kube, clock).key("ns", name, key)

    assert caught.value.reason == reason
    assert f"ns/{name}" in str(caught.value)
    assert "sk-value" not in str(caught.value)


async def test_a_missing_secret_is_seen_as_soon_as_it_is_made(clock: VirtualClock):
    """That it was missing is not remembered."""
    kube = MemorySecrets()
    reader = SecretReader(kube, clock)
    with pytest.raises(CredentialsError):
        await reader.key("ns", "s", "key")
    kube.secrets["s"] = {"key": b"sk-1"}

    assert await reader.key("ns", "s", "key") == "sk-1"


async def test_readers_at_the_same_time_share_one_get(clock: VirtualClock):
    """A thousand jobs that start at once cost one read, and one that is cancelled costs the others nothing."""
    kube = MemorySecrets(s={"key": b"sk-1"})
    kube.gate.clear()
    reader = SecretReader(kube, clock)
    readers = [asyncio.create_task(reader.key("ns", "s", "key")) for _ in range(1000)]
    await settle()
    readers[0].cancel()
    await settle()
    kube.gate.set()

    assert set(await asyncio.gather(*readers[1:])) == {"sk-1"}
    assert kube.gets == 1


async def test_nothing_is_kept_of_a_secret_but_the_key_that_was_asked_for(clock: VirtualClock):
    """A tenant's Secret may be large and may hold anything."""
    kube = MemorySecrets(s={"key": b"sk-1", "other": b"sk-other", "large": b"x" * 1_000_000})
    reader = SecretReader(kube, clock)
    assert await reader.key("ns", "s", "key") == "sk-1"
    kube.secrets["s"] = {"key": b"sk-2", "other": b"sk-other"}

    assert await reader.key("ns", "s", "key") == "sk-1"
    assert kube.gets == 1
    assert await reader.key("ns", "s", "other") == "sk-other"
    assert kube.gets == 2


async def test_an_api_server_that_is_down_is_not_a_missing_secret(clock: VirtualClock):
    """A failed read fails its readers as what it is, and the next one tries again."""
    kube = MemorySecrets(s={"key": b"sk-1"})
    kube.down = True
    reader = SecretReader(kube, clock)
    with pytest.raises(Unreachable):
        await reader.key("ns", "s", "key")
    kube.down = False

    assert await reader.key("ns", "s", "key") == "sk-1"
