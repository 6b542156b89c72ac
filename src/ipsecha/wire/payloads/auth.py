"""Authentication payload (RFC 7296 section 3.8)."""

from __future__ import annotations

from ipsecha.model.errors import WireError


def parse_auth(body: bytes) -> tuple[int, bytes]:
    """The authentication method and data; raises WireError where there is no data."""
    if len(body) <= 4:
        raise WireError("AUTH payload without data")
    return body[0], body[4:]


def build_auth(method: int, data: bytes) -> bytes:
    return bytes((method, 0, 0, 0)) + data
