"""IPv4 fragmentation (RFC 791 section 3.2)."""

from __future__ import annotations

from ipsecha.model.errors import WireError
from ipsecha.wire.ip.checksum import checksum
from ipsecha.wire.ip.headers import FLAG_DF, FLAG_MF, OFFSET_MASK, packet_length

_END_OF_OPTIONS = 0
_NO_OPERATION = 1
_COPIED = 0x80
_FIXED = 20


def fragment_ipv4(packet: bytes, mtu: int, identification: int | None = None) -> list[bytes]:
    """``packet`` in fragments of at most ``mtu`` octets, first one first; the packet itself where it fits.

    A set DF bit does not hinder, and the fragments do not bear it: whether to cut is the caller's policy.  A packet
    with DF may have an Identification that is not unique (RFC 6864 section 4.1); ``identification`` replaces it.
    Options without the "copied" flag stay in the first fragment.
    Raises WireError where the packet is not IPv4 or runs past 65535 octets, or ``mtu`` leaves no room for 8 octets.
    """
    end = packet_length(packet)
    if packet[0] >> 4 != 4:
        raise WireError("IPv6 packets are cut by their source only")
    if end <= mtu:
        return [packet[:end]]
    number = packet[4:6] if identification is None else identification.to_bytes(2, "big")
    offset = (packet[0] & 15) << 2
    place = (packet[6] << 8) | packet[7]
    more, unit = place & FLAG_MF, place & OFFSET_MASK
    if (unit << 3) + end - offset > 0xFFFF:
        raise WireError("a fragment that ends behind the longest packet")
    reserved = place & ~(FLAG_DF | FLAG_MF | OFFSET_MASK)
    options = packet[_FIXED:offset]
    fragments: list[bytes] = []
    while offset < end:
        room = (mtu - _FIXED - len(options)) & ~7
        if room < 8:
            raise WireError(f"no fragment fits into {mtu} octets")
        data = packet[offset : min(offset + room, end)]
        offset += len(data)
        flags = reserved | unit | (FLAG_MF if offset < end else more)
        fragments.append(_fragment(packet, number, flags, options, data))
        unit += room >> 3
        options = _copied_options(options) if len(fragments) == 1 else options
    return fragments


def _fragment(packet: bytes, number: bytes, flags: int, options: bytes, data: bytes) -> bytes:
    header_length = _FIXED + len(options)
    first = bytes((0x40 | (header_length >> 2), packet[1]))
    length = (header_length + len(data)).to_bytes(2, "big")
    header = first + length + number + flags.to_bytes(2, "big") + packet[8:10] + bytes(2) + packet[12:20] + options
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + data


def _copied_options(options: bytes) -> bytes:
    """Those options that belong into each fragment, padded to 32 bits."""
    kept: list[bytes] = []
    at = 0
    while at < len(options) and options[at] != _END_OF_OPTIONS:
        if options[at] == _NO_OPERATION:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2 or at + length > len(options):
            break  # not an option: the routers behind us would not understand it either
        if options[at] & _COPIED:
            kept.append(options[at : at + length])
        at += length
    joined = b"".join(kept)
    return joined + bytes(-len(joined) % 4)
