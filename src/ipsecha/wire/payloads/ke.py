"""Key Exchange payload (RFC 7296 section 3.4)."""

from __future__ import annotations

import struct

from ipsecha.model.errors import WireError

_FIXED = struct.Struct(">HH")


def parse_ke(body: bytes) -> tuple[int, bytes]:
    """The key exchange method and the public value; raises WireError where the value is absent."""
    if len(body) <= 4:
        raise WireError("KE payload without data")
    return (body[0] << 8) | body[1], body[4:]


def build_ke(group: int, data: bytes) -> bytes:
    """The body for ``group``; ``data`` is the public value, padded as the method demands."""
    return _FIXED.pack(group, 0) + data
