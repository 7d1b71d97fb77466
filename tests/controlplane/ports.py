"""Free TCP ports on loopback."""

from __future__ import annotations

import random
import socket

# Below the ephemeral range of Linux (32768 and up) and macOS (49152 and up): no outgoing connection takes the port
# between this look and the server's bind.
FIRST, LAST = 10_240, 32_000


def free_port() -> int:
    """A port that nothing listens on. Random, so that processes which ask at the same time get different ones."""
    while True:
        port = random.randint(FIRST, LAST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
