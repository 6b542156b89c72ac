"""IKE identities (RFC 7296 section 3.5) as frozen values with a readable text form."""

from __future__ import annotations

import ipaddress

import msgspec

from ipsecha.model.errors import PolicyError
from ipsecha.model.numbers import IdType


class Identity(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``kind`` is an ``IdType`` number, ``data`` the identification data as on the wire."""

    kind: int
    data: bytes

    def __str__(self) -> str:
        if self.kind in (IdType.IPV4_ADDR, IdType.IPV6_ADDR) and len(self.data) in (4, 16):
            return str(ipaddress.ip_address(self.data))
        if self.kind in (IdType.FQDN, IdType.RFC822_ADDR):
            return self.data.decode("utf-8", "backslashreplace")
        name = IdType(self.kind).name.lower() if self.kind in IdType._value2member_map_ else f"id{self.kind}"
        return f"{name}:{self.data.hex()}"

    __repr__ = __str__


def parse_identity(text: str) -> Identity:
    """An identity from its text: an IP address, ``user@host``, ``keyid:TEXT`` or a domain name.

    Distinguished names need an X.501 encoder and are parsed by ``ipsecha.crypto.distinguished_names``.
    Raises PolicyError for an empty text or a name that is not ASCII.
    """
    text = text.strip()
    if not text or "=" in text:
        raise PolicyError(f"identity {text!r}: expected an IP address, a domain name, user@host or keyid:TEXT")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        return Identity(IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed)
    if text.startswith("keyid:"):
        return Identity(IdType.KEY_ID, text[len("keyid:") :].encode())
    if not text.isascii():
        raise PolicyError(f"identity {text!r}: domain names and mail addresses are ASCII (use the xn-- form)")
    # "@name" is strongSwan's and libreswan's way to write a domain name that is not to be looked up
    if "@" in text[1:]:
        return Identity(IdType.RFC822_ADDR, text.encode())
    return Identity(IdType.FQDN, text.removeprefix("@").encode())
