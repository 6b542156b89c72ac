"""IKE identities (RFC 7296 section 3.5) as frozen values with a readable text form."""

from __future__ import annotations

import ipaddress

import msgspec

from ipsecha.model.errors import PolicyError
from ipsecha.model.numbers import IdType

_SHOWN_OCTETS = 255
"""Of an identity's data: longer than any domain name; what a stranger claims to be may have 64 KiB."""


class Identity(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``kind`` is an ``IdType`` number, ``data`` the identification data as on the wire.

    Its text is one line of bounded length whatever ``data`` is: it stands in logs before anything is authenticated.
    """

    kind: int
    data: bytes

    def __str__(self) -> str:
        if self.kind in (IdType.IPV4_ADDR, IdType.IPV6_ADDR) and len(self.data) in (4, 16):
            return str(ipaddress.ip_address(self.data))
        shown, more = self.data[:_SHOWN_OCTETS], "..." if len(self.data) > _SHOWN_OCTETS else ""
        if self.kind in (IdType.FQDN, IdType.RFC822_ADDR):
            text = shown.decode("utf-8", "backslashreplace")
            if not text.isprintable():
                text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
            return text + more
        name = IdType(self.kind).name.lower() if self.kind in IdType._value2member_map_ else f"id{self.kind}"
        return f"{name}:{shown.hex()}{more}"

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
