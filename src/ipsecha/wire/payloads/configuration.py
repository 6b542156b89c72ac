"""Configuration payload CP (RFC 7296 section 3.15)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ipsecha.model.errors import WireError
from ipsecha.wire.reader import Reader

CFG_REQUEST = 1
CFG_REPLY = 2
CFG_SET = 3
CFG_ACK = 4


class ConfigurationAttribute(NamedTuple):
    type: int
    value: bytes


class ConfigurationPayload(NamedTuple):
    """``type`` is one of the CFG constants; attributes of unknown types are kept for the caller to ignore."""

    type: int
    attributes: tuple[ConfigurationAttribute, ...]


def parse_configuration(body: bytes) -> ConfigurationPayload:
    """The payload; raises WireError where an attribute runs over the end."""
    reader = Reader(body)
    kind = reader.uint8()
    reader.skip(3)
    attributes: list[ConfigurationAttribute] = []
    while reader.remaining:
        number = reader.uint16() & 0x7FFF  # the top bit is RESERVED
        attributes.append(ConfigurationAttribute(number, reader.octets(reader.uint16())))
    return ConfigurationPayload(kind, tuple(attributes))


def build_configuration(type: int, attributes: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """The body; raises WireError for a value of more than 65535 octets or a type of more than 15 bits."""
    parts = [bytes((type, 0, 0, 0))]
    for number, value in attributes:
        if len(value) > 0xFFFF or not 0 <= number <= 0x7FFF:
            raise WireError(f"configuration attribute {number} with {len(value)} octets")
        parts += (number.to_bytes(2, "big"), len(value).to_bytes(2, "big"), value)
    return b"".join(parts)
