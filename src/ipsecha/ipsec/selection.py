"""A pair of selector lists, prepared for matching packets (RFC 4301 section 4.4.1.1)."""

from __future__ import annotations

import ipaddress

from ipsecha.model.selectors import ANY_PROTOCOL, FULL_PORT_RANGE, TrafficSelector

_PREFIXES_LIMIT = 16


def _port_matches(selector: TrafficSelector, port: int | None) -> bool:
    if port is None:  # the packet shows none; RFC 4301 section 4.4.1.1: only ANY and OPAQUE contain it
        ports = (selector.start_port, selector.end_port)
        return ports == FULL_PORT_RANGE or selector.start_port > selector.end_port
    return selector.start_port <= port <= selector.end_port


def _is_plain(selector: TrafficSelector) -> bool:
    return (selector.protocol, selector.start_port, selector.end_port) == (ANY_PROTOCOL, *FULL_PORT_RANGE)


def _side_matches(selectors: tuple[TrafficSelector, ...], address: bytes, protocol: int, port: int | None) -> bool:
    return any(
        len(one.start) == len(address)
        and one.start <= address <= one.end
        and one.protocol in (ANY_PROTOCOL, protocol)
        and _port_matches(one, port)
        for one in selectors
    )


class Selection:
    """Local and remote selectors together.  ``addresses_only``: no selector looks at protocols or ports."""

    __slots__ = ("addresses_only", "local", "remote")

    def __init__(self, local: tuple[TrafficSelector, ...], remote: tuple[TrafficSelector, ...]) -> None:
        self.local = local
        self.remote = remote
        self.addresses_only = all(map(_is_plain, local)) and all(map(_is_plain, remote))

    def may_match(self, local: bytes, remote: bytes) -> bool:
        """Whether packets between these addresses match for some protocol and ports."""
        return any(len(one.start) == len(local) and one.start <= local <= one.end for one in self.local) and any(
            len(one.start) == len(remote) and one.start <= remote <= one.end for one in self.remote
        )

    def matches(
        self, local: bytes, remote: bytes, protocol: int, local_port: int | None, remote_port: int | None
    ) -> bool:
        return _side_matches(self.local, local, protocol, local_port) and _side_matches(
            self.remote, remote, protocol, remote_port
        )


def cover_by_prefixes(start: bytes, end: bytes) -> list[tuple[int, int]]:
    """Prefixes (length, leading bits) that together contain every address of a range.

    Exact where a few prefixes do; a ragged range is covered by the one prefix around it, since whoever looks up by
    prefix matches the selectors themselves afterwards.
    """
    bits = len(start) * 8
    first, last = int.from_bytes(start, "big"), int.from_bytes(end, "big")
    size = last - first + 1
    if size & (size - 1) == 0 and first % size == 0:
        length = bits - size.bit_length() + 1
        return [(length, first >> (bits - length))]
    prefixes: list[tuple[int, int]] = []
    for network in ipaddress.summarize_address_range(ipaddress.ip_address(start), ipaddress.ip_address(end)):
        prefixes.append((network.prefixlen, int(network.network_address) >> (bits - network.prefixlen)))
        if len(prefixes) > _PREFIXES_LIMIT:
            common = bits - (first ^ last).bit_length()
            return [(common, first >> (bits - common))]
    return prefixes
