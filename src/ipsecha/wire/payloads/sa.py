"""Security Association payload: proposals, transforms, attributes (RFC 7296 section 3.3)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ipsecha.model.errors import WireError
from ipsecha.model.proposals import Proposal, Transform

MAX_PROPOSALS = 255
"""Proposals are numbered from 1 in one octet (section 3.3.1)."""

_MORE_PROPOSALS = 2
_MORE_TRANSFORMS = 3
_KEY_LENGTH_TV = 0x800E
_TV = 0x8000
_SPI_SIZES = {1: (0, 8), 2: (4,), 3: (4,)}  # IKE (0 in IKE_SA_INIT, 8 in a rekey), AH, ESP

_PROPOSAL = struct.Struct(">BBHBBBB")
_TRANSFORM = struct.Struct(">BBHBBH")
_ATTRIBUTE = struct.Struct(">HH")
_TRANSFORM_WITH_KEY_LENGTH = struct.Struct(">BBHBBHHH")


def _encode_transform(transform: Transform, more: int) -> bytes:
    kind, number, key_bits = transform
    if key_bits:
        return _TRANSFORM_WITH_KEY_LENGTH.pack(more, 0, 12, kind, 0, number, _KEY_LENGTH_TV, key_bits)
    return _TRANSFORM.pack(more, 0, 8, kind, 0, number)


# Nearly all transforms that ever arrive are among these: looking them up takes a third of the time of parsing them.
_KNOWN = [Transform(kind, number) for kind in range(1, 6) for number in range(40)] + [
    Transform(1, number, key_bits) for number in range(11, 32) for key_bits in (128, 192, 256)
]
_KNOWN_MORE = {_encode_transform(transform, _MORE_TRANSFORMS): transform for transform in _KNOWN}
_KNOWN_LAST = {_encode_transform(transform, 0): transform for transform in _KNOWN}


def parse_sa(body: bytes) -> tuple[Proposal, ...]:
    """The proposals in the order of preference.

    A transform with an attribute that is not understood is left out, and where it was the last of its type, so is
    the proposal (section 3.3.6: that transform cannot be chosen, and each type present demands a choice).
    Unknown transform types stay: whoever chooses must refuse a proposal that has one.
    Raises WireError where lengths, counts or the "last" marks contradict each other, or an SPI has the wrong size.
    """
    proposals: list[Proposal] = []
    offset, end, count = 0, len(body), 0
    more = _MORE_PROPOSALS
    while more:
        if offset + 8 > end or count == MAX_PROPOSALS:
            raise WireError(f"proposal at octet {offset}: no header, or too many proposals")
        more, _, length, number, protocol, spi_size, transform_count = _PROPOSAL.unpack_from(body, offset)
        stop = offset + length
        start = offset + 8 + spi_size
        if start > stop or stop > end or more not in (0, _MORE_PROPOSALS):
            raise WireError(f"proposal at octet {offset}: length {length} of {end - offset} octets, mark {more}")
        if protocol in _SPI_SIZES and spi_size not in _SPI_SIZES[protocol]:
            raise WireError(f"proposal {number} of protocol {protocol} with an SPI of {spi_size} octets")
        transforms = _parse_transforms(body, start, stop, transform_count)
        if transforms is not None:
            proposals.append(Proposal(number, protocol, body[offset + 8 : start], transforms))
        offset = stop
        count += 1
    if offset != end:
        raise WireError(f"{end - offset} octets after the last proposal")
    return tuple(proposals)


def _parse_transforms(body: bytes, offset: int, end: int, count: int) -> tuple[Transform, ...] | None:
    """The transforms between ``offset`` and ``end``; None where all those of one type are unusable."""
    transforms: list[Transform] = []
    unusable: list[int] = []
    for left in range(count - 1, -1, -1):
        if offset + 8 > end:
            raise WireError(f"{count} transforms announced, octets end after {count - left - 1}")
        stop = offset + body[offset + 3]
        known = (_KNOWN_MORE if left else _KNOWN_LAST).get(body[offset:stop])
        if known is not None and stop <= end:
            transforms.append(known)
            offset = stop
            continue
        more, _, length, kind, _, number = _TRANSFORM.unpack_from(body, offset)
        stop = offset + length
        if length < 8 or stop > end or more != (_MORE_TRANSFORMS if left else 0):
            raise WireError(f"transform at octet {offset}: length {length} of {end - offset} octets, mark {more}")
        if length == 8:
            transforms.append(Transform(kind, number))
        else:
            key_bits = _parse_attributes(body, offset + 8, stop)
            if key_bits is None:
                unusable.append(kind)
            else:
                transforms.append(Transform(kind, number, key_bits))
        offset = stop
    if offset != end:
        raise WireError(f"{end - offset} octets after the last transform")
    if unusable and not {transform.type for transform in transforms}.issuperset(unusable):
        return None
    return tuple(transforms)


def _parse_attributes(body: bytes, offset: int, end: int) -> int | None:
    """The Key Length in bits; None where the attributes are anything else than one Key Length (section 3.3.5)."""
    key_bits: int | None = None
    understood = True
    while offset < end:
        if offset + 4 > end:
            raise WireError(f"attribute at octet {offset} is cut off")
        kind, value = _ATTRIBUTE.unpack_from(body, offset)
        offset += 4
        if kind == _KEY_LENGTH_TV and key_bits is None and value:
            key_bits = value
            continue
        understood = False
        if kind < _TV:
            offset += value
    if offset != end:
        raise WireError("attribute runs over the end of its transform")
    return key_bits if understood else None


def build_sa(proposals: Sequence[Proposal]) -> bytes:
    """The body; raises WireError where a number of proposals, transforms or octets does not fit its field."""
    parts: list[bytes] = []
    more = 0
    try:
        for proposal in reversed(proposals):
            transforms = _build_transforms(proposal.transforms)
            spi, length = proposal.spi, 8 + len(proposal.spi) + len(transforms)
            parts.append(
                _PROPOSAL.pack(more, 0, length, proposal.number, proposal.protocol, len(spi), len(proposal.transforms))
                + spi
                + transforms
            )
            more = _MORE_PROPOSALS
    except struct.error as error:
        raise WireError(f"proposal: {error}") from None
    if not 1 <= len(parts) <= MAX_PROPOSALS:
        raise WireError(f"SA payload with {len(parts)} proposals")
    parts.reverse()
    return b"".join(parts)


def _build_transforms(transforms: Sequence[Transform]) -> bytes:
    marks = [_MORE_TRANSFORMS] * (len(transforms) - 1) + [0]
    return b"".join(map(_encode_transform, transforms, marks))
