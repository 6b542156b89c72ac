"""Nonce payload (RFC 7296 section 3.9)."""

from __future__ import annotations

from ipsecha.model.errors import WireError

MIN_NONCE = 16
MAX_NONCE = 256


def parse_nonce(body: bytes) -> bytes:
    """The nonce; raises WireError outside 16 to 256 octets."""
    if not MIN_NONCE <= len(body) <= MAX_NONCE:
        raise WireError(f"nonce of {len(body)} octets")
    return body


def build_nonce(nonce: bytes) -> bytes:
    return parse_nonce(nonce)
