"""An S3 to test against: moto's server, in an environment of its own because its pins conflict with the operator's."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import urllib3
from obstore.store import S3Store

from controlplane.ports import free_port
from support.cluster import poll
from toolchain.leash import leashed

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-moto"
READY_SECONDS = 60.0
REGION = "us-east-1"
ACCESS_KEY_ID = "test-access-key"
SECRET_ACCESS_KEY = "test-secret-key"


@dataclass(frozen=True)
class Bucket:
    """One bucket of a moto server."""

    endpoint: str
    name: str

    @property
    def url(self) -> str:
        """What goes before a key in a source or a sink: `s3://NAME/`."""
        return f"s3://{self.name}/"

    @property
    def credentials(self) -> dict[str, str]:
        """The data of a Secret for `credentialsSecretRef`."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    @property
    def store(self) -> S3Store:
        """The bucket as obstore sees it, past the operator."""
        return S3Store(
            self.name,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
            client_options={"allow_http": True},
        )

    def put(self, key: str, content: bytes | Iterable[bytes]) -> None:
        """Store an object."""
        self.store.put(key, content if isinstance(content, bytes) else iter(content))

    def get(self, key: str) -> bytes:
        """The whole of an object. Raises FileNotFoundError."""
        return self.store.get(key).bytes().to_bytes()

    def keys(self) -> list[str]:
        """The keys of all objects, sorted."""
        return sorted(entry["path"] for page in self.store.list() for entry in page)


@dataclass(frozen=True)
class Moto:
    """A running moto server."""

    process: subprocess.Popen[bytes]
    endpoint: str

    @classmethod
    def start(cls, log: Path) -> Moto:
        """Start one on a free port of loopback and wait until it answers."""
        program = ENVIRONMENT / "bin" / "python"
        if not program.exists():
            raise AssertionError(f"{ENVIRONMENT.name} is missing; `make test` makes it")
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                leashed([str(program), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        moto = cls(process, f"http://127.0.0.1:{port}")
        if not poll(moto._answers_or_ended, READY_SECONDS) or process.poll() is not None:
            moto.stop()
            raise AssertionError(f"moto did not start\n{log.read_text(errors='replace')[-3000:]}")
        return moto

    def bucket(self) -> Bucket:
        """A new, empty bucket that nobody else uses."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY_ID}/20260101/{REGION}/s3/aws4_request"}
        answer = urllib3.request("PUT", f"{self.endpoint}/{name}", headers=headers, timeout=30, retries=False)
        if answer.status != 200:
            raise AssertionError(f"no bucket: {answer.status} {answer.data[:500]!r}")
        return Bucket(self.endpoint, name)

    def stop(self) -> None:
        """End the server; all it holds is in its memory."""
        self.process.kill()
        self.process.wait()

    def _answers_or_ended(self) -> bool:
        if self.process.poll() is not None:
            return True
        try:
            return urllib3.request("GET", f"{self.endpoint}/moto-api/", timeout=5, retries=False).status < 500
        except urllib3.exceptions.HTTPError:
            return False
