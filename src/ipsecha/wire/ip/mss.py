"""TCP MSS clamping: SYN segments announce no more than fits into the tunnel (RFC 9293 section 3.7.1)."""

from __future__ import annotations

from ipsecha.wire.ip.checksum import update_checksum
from ipsecha.wire.ip.selectors import locate_transport

_TCP = 6
_SYN = 0x02
_END_OF_OPTIONS = 0
_NO_OPERATION = 1
_MSS = 2
_FIXED = 20


def clamp_mss(packet: bytes, mss: int) -> bytes:
    """``packet`` with its MSS option lowered to ``mss`` and its TCP checksum updated; as it is where it is no TCP SYN
    with a higher MSS.

    The TCP checksum must be complete: not one that an offloading device still has to finish.
    Raises WireError where ``packet`` is no IP packet.
    """
    protocol, start, end, later_fragment = locate_transport(packet)
    if protocol != _TCP or later_fragment or end - start <= _FIXED or not packet[start + 13] & _SYN:
        return packet
    options_end = start + ((packet[start + 12] >> 4) << 2)
    if options_end > end:
        return packet
    at = _find_mss(packet, start + _FIXED, options_end)
    old = (packet[at] << 8) | packet[at + 1] if at else 0
    if old <= mss:
        return packet
    new = mss.to_bytes(2, "big")
    old_word, new_word = old, mss
    if (at - start) & 1:  # across two words: one's complement sums do not mind swapped octets (RFC 1071 section 2)
        old_word, new_word = int.from_bytes(packet[at : at + 2], "little"), int.from_bytes(new, "little")
    field = start + 16
    check = update_checksum((packet[field] << 8) | packet[field + 1], old_word, new_word)
    return packet[:field] + check.to_bytes(2, "big") + packet[field + 2 : at] + new + packet[at + 2 :]


def _find_mss(packet: bytes, at: int, end: int) -> int:
    """The offset of the MSS option's value between ``at`` and ``end``, 0 where there is none."""
    while at < end and packet[at] != _END_OF_OPTIONS:
        if packet[at] == _NO_OPERATION:
            at += 1
            continue
        length = packet[at + 1] if at + 1 < end else 0
        if length < 2 or at + length > end:
            return 0
        if packet[at] == _MSS and length == 4:
            return at + 2
        at += length
    return 0
