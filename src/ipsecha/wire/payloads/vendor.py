"""Vendor ID payload (RFC 7296 section 3.12): opaque octets that tell implementations apart."""

from __future__ import annotations

from ipsecha.model.errors import WireError


def parse_vendor(body: bytes) -> bytes:
    """The vendor ID, whatever it is: an unknown one is ignored by those who compare it."""
    return body


def build_vendor(vendor_id: bytes) -> bytes:
    """The body; raises WireError for an empty vendor ID, which could tell nobody apart."""
    if not vendor_id:
        raise WireError("empty vendor ID")
    return vendor_id
