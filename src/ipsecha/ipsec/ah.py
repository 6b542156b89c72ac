"""AH in tunnel mode (RFC 4302): one packet at a time, with the sequence numbers and leases that ESP has.

Inbound, a gathered packet (``wire.ah``) looks to the packet path like an ESP packet: SPI and sequence number in front,
and what ``open`` gives ends with a pad length of zero and the next header.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

from ipsecha.crypto.ah_transforms import AhTransform, ah_transform
from ipsecha.model.errors import CryptoError
from ipsecha.model.proposals import ChildSuite
from ipsecha.wire.ah import (
    AH_FIXED_LENGTH,
    IPV4_LENGTH,
    IPV6_LENGTH,
    first_octets,
    outer_ipv4,
    outer_ipv6,
    padding_length,
    sent_ipv4,
)

_LOW = 0xFFFFFFFF
_IDENTIFICATION = 0xFFFF


class Outer:
    """The outer header of a run of packets.  ``local`` and ``remote``: literal addresses of one family."""

    __slots__ = ("_dont_fragment", "_dst", "_src", "_traffic_class", "length")

    def __init__(self, local: str, remote: str, traffic_class: int, dont_fragment: bool) -> None:
        self._src, self._dst = ip_address(local).packed, ip_address(remote).packed
        self._traffic_class = traffic_class
        self._dont_fragment = dont_fragment
        self.length = IPV4_LENGTH if len(self._dst) == 4 else IPV6_LENGTH

    def authenticated(self, length: int, number: int) -> bytes:
        """With mutable fields zero.  The identification is authentic, so it is ours to choose, and not 0, which the
        kernel would replace."""
        if self.length == IPV6_LENGTH:
            return outer_ipv6(self._src, self._dst, length)
        return outer_ipv4(self._src, self._dst, length, number & _IDENTIFICATION or _IDENTIFICATION)

    def sent(self, authenticated: bytes) -> bytes:
        """What stands in front of AH in what the socket is given."""
        if self.length == IPV6_LENGTH:
            return b""
        return sent_ipv4(authenticated, self._traffic_class, self._dont_fragment)


@lru_cache(maxsize=1024)
def outer_header(local: str, remote: str, traffic_class: int, dont_fragment: bool) -> Outer:
    """As ``Outer``: peers and traffic classes are few."""
    return Outer(local, remote, traffic_class, dont_fragment)


class AhSa:
    """One direction of a child SA that uses AH.  Raises CryptoError for suites and keys that do not fit."""

    __slots__ = ("_transform",)

    iv_length = 0  # it is part of the ICV field
    block = 1

    def __init__(self, suite: ChildSuite, key: bytes) -> None:
        self._transform: AhTransform = ah_transform(suite, key)

    @property
    def counter_iv(self) -> bool:
        return self._transform.counter_iv

    @property
    def icv_length(self) -> int:
        return self._transform.icv_length

    def overhead(self, outer_length: int) -> int:
        """Octets of AH behind an outer header of that length."""
        icv = self.icv_length
        return AH_FIXED_LENGTH + icv + padding_length(icv, outer_length)

    def open(self, header: bytes, seq_high: int | None, body: bytes) -> bytes:
        """The payload, a zero octet and the next header, of a gathered packet: ``header`` its first 8 octets, ``body``
        the rest.  Raises CryptoError where the ICV does not verify or a length is impossible."""
        outer_end = 1 + body[0] if body else 1
        first = body[outer_end : outer_end + 4]
        field = body[outer_end + 4 :]
        field_length = (first[1] + 2) * 4 - AH_FIXED_LENGTH if len(first) == 4 else -1
        size = self.icv_length
        if not size <= field_length <= len(field):
            raise CryptoError("the AH packet has an impossible length")
        before = body[1:outer_end] + first + header
        self._transform.verify(before, field[:size], field[size:], seq_high)
        return field[field_length:] + b"\0" + first[:1]

    def protect(self, spi: bytes, number: int, payload: tuple[int, bytes], iv: bytes, outer: Outer, esn: bool) -> bytes:
        """The packet as it is sent: behind its IPv4 header, or behind none for IPv6.  ``payload``: next header and
        octets; ``iv``: 8 octets where ``counter_iv``, else empty."""
        next_header, packet = payload
        padding = bytes(padding_length(self.icv_length, outer.length))
        first = first_octets(next_header, self.icv_length + len(padding))
        header = outer.authenticated(AH_FIXED_LENGTH + self.icv_length + len(padding) + len(packet), number)
        ah = first + spi + (number & _LOW).to_bytes(4, "big")
        icv = self._transform.sign(header + ah, padding + packet, number >> 32 if esn else None, iv)
        return outer.sent(header) + ah + icv + padding + packet
