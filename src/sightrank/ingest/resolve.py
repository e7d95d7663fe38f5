"""Host names to vetted addresses, and the last check before a socket is made.

aiohttp asks a resolver for host names only: an address in the URL goes past it straight to the connector. So the policy
is applied here for names, in ``fetch`` for addresses in URLs, and in ``VettedSockets.open`` for every address that is
about to be connected to, however it came there. What was vetted is what is connected to, so a name that changes its
answer gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from sightrank.ingest.address import Address, AddressPolicy, normal_host, parse_address

# Host and port to the addresses of that host; raises socket.gaierror when there are none. Called in a thread.
Lookup = Callable[[str, int], list[str]]


class AddressRefusedError(OSError):
    """The policy forbids every address of a host. An OSError, because aiohttp passes on only those."""

    def __init__(self, host: str, addresses: list[str]) -> None:
        super().__init__(f"{host} is {', '.join(addresses)}")
        self.host = host
        self.addresses = addresses


class NameUnknownError(Exception):
    """A host name has no address. ``temporary`` when the name server itself had trouble."""

    def __init__(self, host: str, reason: str, *, temporary: bool) -> None:
        super().__init__(f"{host}: {reason}")
        self.temporary = temporary


def system_lookup(host: str, port: int) -> list[str]:
    """The machine's own resolver (hosts file, DNS)."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class VettedResolver(AbstractResolver):
    """Drops refused addresses. Resolves in threads of its own: a name server that hangs must not stop other work."""

    def __init__(self, policy: AddressPolicy, lookup: Lookup, *, threads: int) -> None:
        self._policy = policy
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")
        # What host names the operator allowed resolved to. Only such names add to it, so it stays small.
        self.excepted: set[Address] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises NameUnknownError, or AddressRefusedError when every address of the host is refused."""
        try:
            loop = asyncio.get_running_loop()
            texts = await loop.run_in_executor(self._threads, self._lookup, normal_host(host), port)
        except socket.gaierror as error:
            reason = error.strerror or "no address"
            raise NameUnknownError(host, reason, temporary=error.errno == socket.EAI_AGAIN) from None
        except (OSError, UnicodeError) as error:
            raise NameUnknownError(host, str(error), temporary=False) from None
        addresses = [address for text in texts if (address := parse_address(text)) is not None]
        if self._policy.permits_host(host):
            good = addresses
            self.excepted.update(addresses)
        else:
            good = [address for address in addresses if self._policy.permits(address)]
        if not good:
            if addresses:
                raise AddressRefusedError(host, [str(address) for address in addresses])
            raise NameUnknownError(host, "no address", temporary=False)
        return [_result(host, address, port) for address in good]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class VettedSockets:
    """Makes the sockets of outgoing connections, and none for a refused address. The last of three checks."""

    def __init__(self, policy: AddressPolicy, resolver: VettedResolver) -> None:
        self._policy = policy
        self._resolver = resolver

    def open(self, info: AddrInfoType) -> socket.socket:
        """The socket for one connection attempt. Raises AddressRefusedError."""
        family, kind, protocol, _, target = info
        text = str(target[0])
        address = parse_address(text)
        if address is None or not (self._policy.permits(address) or address in self._resolver.excepted):
            raise AddressRefusedError(text, [text])
        return socket.socket(family=family, type=kind, proto=protocol)


def _result(host: str, address: Address, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=str(address),
        port=port,
        family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
