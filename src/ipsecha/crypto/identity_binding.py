"""The tie between an ID payload and the certificate that comes with it (RFC 7296 section 3.5, RFC 4945 section 3.1).

Without it, whoever holds any certificate of a configured CA could claim to be anyone.
"""

from __future__ import annotations

import ipaddress

from cryptography import x509

from ipsecha.crypto.certificates import Certificate, printable
from ipsecha.crypto.distinguished_names import normal_name
from ipsecha.model.errors import CryptoError
from ipsecha.model.identity import Identity
from ipsecha.model.numbers import IdType


def same_identity(one: Identity, other: Identity) -> bool:
    """Whether two identities name the same: domain names (also of mail addresses) without regard to case,
    distinguished names as RFC 5280 compares them, everything else octet by octet."""
    if one == other:
        return True
    if one.kind != other.kind:
        return False
    if one.kind == IdType.FQDN:
        return one.data.lower() == other.data.lower()
    if one.kind == IdType.RFC822_ADDR:
        return _normal_mail(one.data) == _normal_mail(other.data)
    if one.kind == IdType.DER_ASN1_DN:
        try:
            return normal_name(one.data) == normal_name(other.data)
        except CryptoError:
            return False
    return False


def is_bound(certificate: Certificate, identity: Identity) -> bool:
    """Whether the certificate is for ``identity``: its subject, or one of its subject alternative names.

    A name in the subject's common name does not count, and a wildcard is a name like any other (RFC 4945
    section 3.1.2), as with strongSwan.
    """
    if identity.kind == IdType.DER_ASN1_DN:
        return bool(normal_name(identity.data)) and same_identity(
            identity, Identity(IdType.DER_ASN1_DN, certificate.subject)
        )
    return any(same_identity(identity, named) for named in _alternative_identities(certificate))


def certified_form(certificate: Certificate, identity: Identity) -> Identity:
    """``identity`` as the certificate spells it: a distinguished name has many encodings (string types), and some
    peers compare an ID payload with the subject octet by octet."""
    if identity.kind == IdType.DER_ASN1_DN and is_bound(certificate, identity):
        return Identity(IdType.DER_ASN1_DN, certificate.subject)
    return identity


def check_bound(certificate: Certificate, identity: Identity) -> None:
    """Raises CryptoError where the certificate is not for ``identity``."""
    if not is_bound(certificate, identity):
        raise CryptoError(f"certificate of {certificate.name} is not for the identity {_readable(identity)}")


def _alternative_identities(certificate: Certificate) -> list[Identity]:
    result = []
    for name in certificate.alternative_names:
        if isinstance(name, x509.DNSName):
            result.append(Identity(IdType.FQDN, name.value.encode()))
        elif isinstance(name, x509.RFC822Name):
            result.append(Identity(IdType.RFC822_ADDR, name.value.encode()))
        elif isinstance(name, x509.IPAddress) and isinstance(name.value, ipaddress.IPv4Address | ipaddress.IPv6Address):
            kind = IdType.IPV4_ADDR if name.value.version == 4 else IdType.IPV6_ADDR
            result.append(Identity(kind, name.value.packed))
    return result


def _normal_mail(address: bytes) -> tuple[bytes, bytes]:
    local, _, domain = address.rpartition(b"@")
    return local, domain.lower()


def _readable(identity: Identity) -> str:
    if identity.kind == IdType.DER_ASN1_DN:
        try:
            parts = [str(value) for relative in normal_name(identity.data) for _, value in sorted(relative, key=str)]
        except CryptoError:
            parts = []
        return printable(", ".join(parts)) or "(empty name)"
    return printable(str(identity))
