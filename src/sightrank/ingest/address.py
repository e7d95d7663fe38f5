"""Which addresses sightrank may open for a URL that somebody else chose.

Image URLs come from API callers, so they must not reach what only this machine can: its own ports, the private network,
a cloud's metadata service. ``AddressPolicy`` says yes to public unicast addresses and to what the operator names.
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED_BESIDES = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # "this network": Linux connects 0.0.0.0 to itself
        "100.64.0.0/10",  # shared by carriers (CGNAT); one cloud's metadata service is 100.100.100.200
        "168.63.129.16/32",  # a public address that is one cloud's metadata service
        "192.0.0.0/24",  # protocol assignments; one cloud's metadata service is 192.0.0.192
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b:1::/48",  # NAT64 with an operator's own prefix: what lies behind it is unknown
        "2001::/23",  # protocol assignments, Teredo among them
        "fec0::/10",  # site-local, the predecessor of fc00::/7
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")
_ISATAP_MARKS = (0x00005EFE, 0x02005EFE)


class AddressPolicy:
    """Public addresses, plus ``allow``: CIDRs, single addresses and host names that may be private.

    A host name in ``allow`` may resolve to anything; it is compared without regard to case or a final dot.
    Raises ValueError when an entry is neither a network nor a host name.
    """

    def __init__(self, allow: tuple[str, ...] = ()) -> None:
        networks: list[Network] = []
        hosts: set[str] = set()
        for entry in allow:
            network = _network(entry)
            if network is not None:
                networks.append(network)
            else:
                hosts.add(normal_host(entry))
        self._networks = tuple(networks)
        self._hosts = frozenset(hosts)

    def permits_host(self, host: str) -> bool:
        """True when the operator named this host, whatever it resolves to."""
        return normal_host(host) in self._hosts

    def permits(self, address: Address) -> bool:
        """True when a connection to ``address`` is harmless, or the operator named a network that holds it."""
        inner = embedded_ipv4(address)
        if any(candidate in network for candidate in (address, *inner) for network in self._networks):
            return True
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            # The kernel connects a mapped address over IPv4: only the inner address counts.
            return is_public(address.ipv4_mapped)
        return is_public(address) and all(is_public(candidate) for candidate in inner)


def is_public(address: Address) -> bool:
    """True for a global unicast address that belongs to no special network."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        # NAT64 is marked reserved by its registry entry, though it only carries an IPv4 address.
        return isinstance(address, IPv6Address) and address in _NAT64
    return not any(address in network for network in _REFUSED_BESIDES)


def embedded_ipv4(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses where a packet to this address may end: mapped, compatible, 6to4, NAT64, ISATAP, Teredo."""
    if isinstance(address, IPv4Address):
        return ()
    number = int(address)
    low = IPv4Address(number & 0xFFFFFFFF)
    found: list[IPv4Address] = []
    if address.ipv4_mapped is not None:
        found.append(address.ipv4_mapped)
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    if address in _NAT64 or address in _IPV4_COMPATIBLE or (number >> 32) & 0xFFFFFFFF in _ISATAP_MARKS:
        found.append(low)
    return tuple(found)


def parse_address(host: str) -> Address | None:
    """The address that ``host`` spells, in its usual form, or None for a name. A zone (``%eth0``) is kept."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def normal_host(host: str) -> str:
    """A host name as it is compared: casefolded, without the final dot."""
    return host.strip().rstrip(".").casefold()


def _network(entry: str) -> Network | None:
    try:
        return ipaddress.ip_network(entry.strip(), strict=False)
    except ValueError:
        if not entry.strip() or any(character in entry for character in "/ @*") or ":" in entry:
            raise ValueError(
                f"SIGHTRANK_FETCH_ALLOW has {entry!r}, which is no network (10.0.0.0/8), no address and no host name."
            ) from None
        return None
