"""Traffic Selector payloads TSi and TSr (RFC 7296 section 3.13)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ipsecha.model.errors import WireError
from ipsecha.model.selectors import TrafficSelector

_IPV4 = struct.Struct(">BBHHH4s4s")
_IPV6 = struct.Struct(">BBHHH16s16s")
_FORMATS = {7: _IPV4, 8: _IPV6}  # TS_IPV4_ADDR_RANGE, TS_IPV6_ADDR_RANGE
_OPAQUE = (65535, 0)
_LAST_PORT = 65535


def parse_selectors(body: bytes) -> tuple[TrafficSelector, ...]:
    """The traffic selectors; those of unknown types are left out.

    Raises WireError where lengths or the count do not match the octets, or where a range runs backwards (other than
    OPAQUE ports, 65535 to 0, section 3.13.1).
    """
    end = len(body)
    if end < 4:
        raise WireError(f"Traffic Selector payload with {end} octets")
    selectors: list[TrafficSelector] = []
    offset = 4
    for _ in range(body[0]):
        if offset + 4 > end:
            raise WireError(f"{body[0]} traffic selectors announced, octets end after {offset}")
        length = (body[offset + 2] << 8) | body[offset + 3]
        if length < 4 or offset + length > end:
            raise WireError(f"traffic selector at octet {offset}: length {length} of {end - offset} octets")
        layout = _FORMATS.get(body[offset])
        if layout is not None:
            if length != layout.size:
                raise WireError(f"traffic selector of type {body[offset]} with {length} octets")
            selectors.append(_selector(layout, body, offset))
        offset += length
    if offset != end:
        raise WireError(f"{end - offset} octets after the last traffic selector")
    return tuple(selectors)


def _selector(layout: struct.Struct, body: bytes, offset: int) -> TrafficSelector:
    _, protocol, _, start_port, end_port, start, last = layout.unpack_from(body, offset)
    if start > last:
        raise WireError("traffic selector whose addresses run backwards")
    if start_port > end_port and (start_port, end_port) != _OPAQUE:
        raise WireError(f"traffic selector with ports {start_port} to {end_port}")
    # a gateway keeps many selectors, mostly of single addresses and all ports: equal values are one object
    return TrafficSelector(
        start,
        start if start == last else last,
        protocol,
        start_port,
        _LAST_PORT if end_port == _LAST_PORT else end_port,
    )


def build_selectors(selectors: Sequence[TrafficSelector]) -> bytes:
    """The body; raises WireError for more than 255 selectors, which its count cannot say."""
    if len(selectors) > 255:
        raise WireError(f"{len(selectors)} traffic selectors")
    parts = [bytes((len(selectors), 0, 0, 0))]
    for one in selectors:
        kind, layout = (7, _IPV4) if len(one.start) == 4 else (8, _IPV6)
        parts.append(layout.pack(kind, one.protocol, layout.size, one.start_port, one.end_port, one.start, one.end))
    return b"".join(parts)
