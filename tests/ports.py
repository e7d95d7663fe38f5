"""Ports for servers that tests start."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

HOST = "127.0.0.1"
LOWEST = 10_000


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all different.

    They are not of those that the system gives to connections: such a one could be taken by any client between now and
    the moment the server binds it, seconds later. Processes of a parallel run choose from parts of their own.
    """
    parts = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = range(LOWEST, _lowest_of_connections())[part::parts]
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            one = held.enter_context(socket.socket())
            with suppress(OSError):  # taken
                one.bind((HOST, secrets.choice(mine)))
                found.append(one.getsockname()[1])
    return found


def _lowest_of_connections() -> int:
    with suppress(OSError):
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        if lowest >= LOWEST + 1000:
            return lowest
    return 32_768  # where Linux begins unless told otherwise, and below where other systems do
