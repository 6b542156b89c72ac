"""Identities in the configuration, and those that our certificate vouches for (RFC 4945 section 3.1)."""

from __future__ import annotations

from cryptography import x509

from ipsecha.crypto.certificates import Certificate
from ipsecha.crypto.distinguished_names import parse_distinguished_name
from ipsecha.gateway.config_values import Wrong, expected
from ipsecha.model.errors import PolicyError
from ipsecha.model.identity import Identity, parse_identity
from ipsecha.model.numbers import IdType

_MAX_TEXT = 1000


def identity(value: object) -> Identity:
    """``vpn.example.net``, ``user@example.net``, an address, ``keyid:TEXT`` or ``C=DE, O=Example, CN=vpn``."""
    wanted = 'an identity such as "vpn.example.net", "192.0.2.10", "user@example.net" or "C=DE, CN=vpn"'
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > _MAX_TEXT:
        raise expected(wanted, value)
    try:
        if "=" in value and not value.startswith("keyid:"):
            return parse_distinguished_name(value)
        return parse_identity(value)
    except PolicyError as error:
        raise Wrong(str(error)) from None


def default_identity(certificate: Certificate) -> Identity:
    """What to claim with a certificate where nothing is configured: the first name, mail address or address of its
    SAN, else its subject."""
    for name in certificate.alternative_names:
        if isinstance(name, x509.DNSName):
            return Identity(IdType.FQDN, name.value.encode())
        if isinstance(name, x509.RFC822Name):
            return Identity(IdType.RFC822_ADDR, name.value.encode())
        if isinstance(name, x509.IPAddress):
            return parse_identity(str(name.value))
    return Identity(IdType.DER_ASN1_DN, certificate.subject)
