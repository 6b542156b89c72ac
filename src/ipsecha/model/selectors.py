"""Traffic selectors: ranges of addresses, protocols and ports (RFC 7296 sections 2.9, 3.13; RFC 4301 section 4.4.1)."""

from __future__ import annotations

import ipaddress

import msgspec

from ipsecha.model.errors import PolicyError

ANY_PROTOCOL = 0
FULL_PORT_RANGE = (0, 65535)


class TrafficSelector(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """Addresses ``start`` to ``end`` (4 or 16 octets each, inclusive), IP protocol (0: any), ports (inclusive).

    ``start_port`` 65535 with ``end_port`` 0 is OPAQUE (RFC 7296 section 3.13.1).
    For ICMP the "port" is type << 8 | code.
    """

    start: bytes
    end: bytes
    protocol: int = ANY_PROTOCOL
    start_port: int = 0
    end_port: int = 65535

    def intersect(self, other: TrafficSelector) -> TrafficSelector | None:
        """What both selectors allow, or None where they have nothing in common."""
        if len(self.start) != len(other.start):
            return None
        if self.protocol and other.protocol and self.protocol != other.protocol:
            return None
        start, end = max(self.start, other.start), min(self.end, other.end)
        ports = self._common_ports(other)
        if start > end or ports is None:
            return None
        return TrafficSelector(start, end, self.protocol or other.protocol, *ports)

    def _common_ports(self, other: TrafficSelector) -> tuple[int, int] | None:
        mine, theirs = (self.start_port, self.end_port), (other.start_port, other.end_port)
        if mine == theirs:
            return mine
        if mine[0] > mine[1]:  # OPAQUE: only itself and ANY contain it
            return mine if theirs == FULL_PORT_RANGE else None
        if theirs[0] > theirs[1]:
            return theirs if mine == FULL_PORT_RANGE else None
        low, high = max(mine[0], theirs[0]), min(mine[1], theirs[1])
        return (low, high) if low <= high else None

    def covers(self, other: TrafficSelector) -> bool:
        """Whether every packet that ``other`` selects is selected by this one too."""
        return (
            len(self.start) == len(other.start)
            and self.start <= other.start <= other.end <= self.end
            and self.protocol in (ANY_PROTOCOL, other.protocol)
            and self._common_ports(other) == (other.start_port, other.end_port)
        )

    def matches(self, address: bytes, protocol: int, port: int) -> bool:
        """Whether a packet's address (4 or 16 octets), protocol and port on this side are selected."""
        return (
            len(address) == len(self.start)
            and self.start <= address <= self.end
            and self.protocol in (ANY_PROTOCOL, protocol)
            and (self.start_port <= port <= self.end_port)
        )

    def __str__(self) -> str:
        first, last = ipaddress.ip_address(self.start), ipaddress.ip_address(self.end)
        networks = [str(net) for net in ipaddress.summarize_address_range(first, last)]
        text = networks[0] if len(networks) == 1 else f"{first}-{last}"
        if self.start_port > self.end_port:
            return f"{text}[{self.protocol}/opaque]"
        ports = "" if (self.start_port, self.end_port) == FULL_PORT_RANGE else f"/{self.start_port}-{self.end_port}"
        return f"{text}[{self.protocol or 'any'}{ports}]" if self.protocol or ports else text

    __repr__ = __str__


def selector_from_prefix(
    text: str, protocol: int = ANY_PROTOCOL, ports: tuple[int, int] = FULL_PORT_RANGE
) -> TrafficSelector:
    """A selector for ``10.1.0.0/16``, ``2001:db8::/32``, a single address or a range ``10.0.0.1-10.0.0.9``.

    Raises PolicyError where the text is none of these.
    """
    try:
        if "-" in text:
            first_text, last_text = text.split("-", 1)
            first, last = ipaddress.ip_address(first_text.strip()), ipaddress.ip_address(last_text.strip())
            if first.version != last.version or int(first) > int(last):
                raise ValueError("the range runs backwards or mixes IPv4 and IPv6")
            return TrafficSelector(first.packed, last.packed, protocol, *ports)
        network = ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise PolicyError(f"{text!r} is not a prefix, an address or a range of addresses: {error}") from None
    return TrafficSelector(network[0].packed, network[-1].packed, protocol, *ports)


def narrow(proposed: tuple[TrafficSelector, ...], policy: tuple[TrafficSelector, ...]) -> tuple[TrafficSelector, ...]:
    """The responder's answer to ``proposed`` under ``policy`` (RFC 7296 section 2.9): the intersections, without
    repeats or parts that others cover, in the order of the proposal.  Empty: TS_UNACCEPTABLE.

    What equals the policy is the policy's own object: a hundred thousand peers then share it.
    """
    result: list[TrafficSelector] = []
    for offer in proposed:
        for allowed in policy:
            common = allowed if offer.covers(allowed) else offer.intersect(allowed)
            if common is not None and not any(kept.covers(common) for kept in result):
                result = [kept for kept in result if not common.covers(kept)]
                result.append(common)
    narrowed = tuple(result)
    return policy if narrowed == policy else narrowed


def all_covered(inner: tuple[TrafficSelector, ...], outer: tuple[TrafficSelector, ...]) -> bool:
    """Whether each selector of ``inner`` is covered by one of ``outer`` (the initiator's check of an answer)."""
    return all(any(wide.covers(small) for wide in outer) for small in inner)
