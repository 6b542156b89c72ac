"""Distinguished names: from the text of a configuration, and compared as RFC 5280 section 7.1 wants it."""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.x509.oid import NameOID

from ipsecha.crypto.der import OBJECT_IDENTIFIER, SEQUENCE, SET, read_elements, read_single
from ipsecha.model.errors import CryptoError, PolicyError
from ipsecha.model.identity import Identity
from ipsecha.model.numbers import IdType

_ATTRIBUTES: dict[str, x509.ObjectIdentifier] = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "CN": NameOID.COMMON_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "E": NameOID.EMAIL_ADDRESS,
    "EMAILADDRESS": NameOID.EMAIL_ADDRESS,
    "SERIALNUMBER": NameOID.SERIAL_NUMBER,
    "G": NameOID.GIVEN_NAME,
    "S": NameOID.SURNAME,
    "T": NameOID.TITLE,
}

_SEPARATOR = re.compile(r"(?<!\\),")
_ESCAPE = re.compile(r"\\(.)")

_UTF8_STRING, _PRINTABLE_STRING, _TELETEX_STRING, _IA5_STRING = 0x0C, 0x13, 0x14, 0x16
_UNIVERSAL_STRING, _BMP_STRING = 0x1C, 0x1E
_ENCODINGS: dict[int, str] = {
    _UTF8_STRING: "utf-8",
    _PRINTABLE_STRING: "ascii",
    _TELETEX_STRING: "latin-1",
    _IA5_STRING: "ascii",
    _UNIVERSAL_STRING: "utf-32-be",
    _BMP_STRING: "utf-16-be",
}

NormalName = tuple[frozenset[tuple[bytes, str | bytes]], ...]


def parse_distinguished_name(text: str) -> Identity:
    r"""An identity from ``C=CH, O=Example\, Inc, CN=gw.example.org``, in the order of the certificate.

    Raises PolicyError for an attribute that is unknown, empty or not allowed in a certificate.
    """
    attributes = []
    for part in _SEPARATOR.split(text):
        key, equals, value = part.partition("=")
        oid = _ATTRIBUTES.get(key.strip().upper())
        value = _ESCAPE.sub(r"\1", value.strip())
        if not equals or oid is None or not value:
            known = ", ".join(_ATTRIBUTES)
            raise PolicyError(f"distinguished name {text!r}: {part.strip()!r} is not KEY=VALUE with KEY one of {known}")
        try:
            attributes.append(x509.NameAttribute(oid, value))
        except ValueError as error:
            raise PolicyError(f"distinguished name {text!r}: {part.strip()!r}: {error}") from None
    return Identity(IdType.DER_ASN1_DN, x509.Name(attributes).public_bytes())


def normal_name(der: bytes) -> NormalName:
    """A name for comparison: kinds of strings, case, and white space at the ends and in runs make no difference.

    Raises CryptoError where the octets are not a DER name.
    """
    result = []
    for relative in read_elements(read_single(der, SEQUENCE)):
        if relative.tag != SET:
            raise CryptoError("a distinguished name consists of sets")
        result.append(frozenset(_normal_attribute(item.tag, item.content) for item in read_elements(relative.content)))
    return tuple(result)


def _normal_attribute(tag: int, content: bytes) -> tuple[bytes, str | bytes]:
    parts = list(read_elements(content))
    if tag != SEQUENCE or len(parts) != 2 or parts[0].tag != OBJECT_IDENTIFIER:
        raise CryptoError("a distinguished name is malformed")
    kind, value = parts[0].content, parts[1]
    encoding = _ENCODINGS.get(value.tag)
    if encoding is None:
        return kind, bytes((value.tag,)) + value.content
    try:
        return kind, " ".join(value.content.decode(encoding).casefold().split())
    except UnicodeDecodeError:
        raise CryptoError("a distinguished name has a string that is not what it claims to be") from None
