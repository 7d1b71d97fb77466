"""A server of files on loopback that can cut, hold back, drip and lose them."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto


class Manner(Enum):
    """How a file is sent."""

    WHOLE = auto()
    CUT = auto()  # half of it, then the connection ends
    STALLED = auto()  # half of it, then nothing until `FileServer.released`
    DRIPPING = auto()  # byte by byte for as long as somebody reads


@dataclass
class FileServer:
    """What it serves, by the path without the leading slash, and what it was asked for."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    manner: Manner = Manner.WHOLE
    asked: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving_files() -> Iterator[FileServer]:
    """A server for as long as the context lasts; what it held back is cut at the end."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("http://").removeprefix("/")  # the former when asked as a proxy
            server.asked.append(path)
            content = server.files.get(path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self._send(content)

        def _send(self, content: bytes) -> None:
            half = len(content) // 2
            match server.manner:
                case Manner.WHOLE:
                    self.wfile.write(content)
                case Manner.CUT:
                    self.wfile.write(content[:half])
                case Manner.STALLED:
                    self.wfile.write(content[:half])
                    server.released.wait()
                    self.wfile.write(content[half:])
                case Manner.DRIPPING:
                    for at in range(len(content)):
                        self.wfile.write(content[at : at + 1])
                        if server.released.wait(0.01):
                            return

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # whoever asked has gone
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server = FileServer(f"http://127.0.0.1:{listening.server_port}")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            listening.shutdown()
            thread.join()
