"""Taking in a file: multipart, streamed to the spool and validated on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import BodyPartReader, web

from llmbatch.emulator.openai.processing.validation import Validator
from llmbatch.emulator.refusals import Verdict
from llmbatch.emulator.spool import Spool

PIECE = 256 * 1024
LONGEST_FIELD = 4096


class NotMultipart(Exception):
    """The body is no multipart form, or one that can't be read."""


@dataclass
class Upload:
    """A form that came in; `path` is None when it had no file. `size` counts all bytes, also those beyond the limit."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    path: Path | None = None
    size: int = 0
    verdict: Verdict | None = None


async def receive(request: web.Request, spool: Spool, *, max_bytes: int, max_requests: int) -> Upload:
    """Read the form to its end; what goes beyond `max_bytes` is read and thrown away. Raises NotMultipart."""
    if not request.content_type.startswith("multipart/form-data"):
        raise NotMultipart
    upload = Upload()
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise NotMultipart
            if part.filename is not None or part.name == "file":
                if upload.path or part.name != "file":
                    raise NotMultipart
                await _receive_file(part, upload, spool, max_bytes=max_bytes, max_requests=max_requests)
            else:
                value = await part.read_chunk(LONGEST_FIELD)
                upload.fields[part.name] = bytes(value).decode("utf-8", "replace")
                await part.release()
    except (ValueError, AssertionError) as error:
        _discard(upload)
        raise NotMultipart from error
    except BaseException:
        _discard(upload)
        raise
    return upload


def _discard(upload: Upload) -> None:
    """Forget what came in of a form that isn't whole, as when the client went away in its middle."""
    if upload.path:
        upload.path.unlink(missing_ok=True)


async def _receive_file(
    part: BodyPartReader, upload: Upload, spool: Spool, *, max_bytes: int, max_requests: int
) -> None:
    validator = Validator(max_requests=max_requests)
    upload.filename = part.filename or ""
    upload.path = spool.new_path()
    with upload.path.open("wb") as file:
        while piece := bytes(await part.read_chunk(PIECE)):
            upload.size += len(piece)
            if upload.size <= max_bytes:
                file.write(piece)
                validator.feed(piece)
    upload.verdict = validator.finish()
