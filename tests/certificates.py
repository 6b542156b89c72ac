"""A small certification authority for tests: roots, intermediates and end entities, good and bad in every way.

Certificates are valid from 2020 to 2099 unless a test says otherwise, so that they serve with a fixed clock and with
the real one.  Keys are made once per kind and name of the key, because RSA keys are slow to make; what is Ed25519
throughout is the same in every run.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey

VALID_FROM = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
VALID_TO = datetime.datetime(2099, 12, 31, tzinfo=datetime.UTC)
WALL_TIME = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC).timestamp()
"""A moment within the default validity, in seconds since 1970."""


@functools.cache
def private_key(kind: str, name: str) -> PrivateKey:
    """The key of ``kind`` (rsa, rsa1024, rsa3072, p256, p384, p521, ed25519) that belongs to ``name``."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:] or 2048))
    if kind == "ed25519":
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1(), "secp256k1": ec.SECP256K1()}
    return ec.generate_private_key(curves[kind])


def distinguished_name(common_name: str) -> x509.Name:
    """C=CH, O=ipsecha, CN=common_name"""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ipsecha"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


class Holder(NamedTuple):
    """An end entity's certificate (DER), its private key (PEM, PKCS #8) and the intermediates above it (DER)."""

    certificate: bytes
    private_key: bytes
    intermediates: tuple[bytes, ...]

    @property
    def chain(self) -> tuple[bytes, ...]:
        return (self.certificate, *self.intermediates)

    @property
    def pem(self) -> bytes:
        """The chain as a PEM file."""
        return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in self.chain)


def key_usage(
    digital_signature: bool = False, key_cert_sign: bool = False, key_agreement: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=key_agreement,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


class Authority:
    """A CA; without ``issuer`` a self-signed root.

    ``constraints`` and ``usage`` default to those of a CA and can be left out with None; ``extensions`` are further
    ones as (value, critical).
    """

    def __init__(
        self,
        name: str = "Example Root CA",
        kind: str = "p256",
        issuer: Authority | None = None,
        *,
        valid: tuple[datetime.datetime, datetime.datetime] = (VALID_FROM, VALID_TO),
        constraints: x509.BasicConstraints | None = x509.BasicConstraints(ca=True, path_length=None),  # noqa: B008
        usage: x509.KeyUsage | None = key_usage(key_cert_sign=True),  # noqa: B008
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        key_name: str = "",
    ) -> None:
        self.name = distinguished_name(name)
        self.key = private_key(kind, key_name or name)
        self.issuer = issuer
        added = list(extensions)
        if constraints is not None:
            added.append((constraints, True))
        if usage is not None:
            added.append((usage, True))
        signer = issuer or self
        self.certificate = _certify(self.name, self.key, signer.name, signer.key, valid, added)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The intermediates from here up to, but without, the root."""
        return (self.certificate, *self.issuer.chain) if self.issuer else ()

    @property
    def pem(self) -> bytes:
        return x509.load_der_x509_certificate(self.certificate).public_bytes(Encoding.PEM)

    def issue(
        self,
        common_name: str,
        kind: str = "p256",
        *,
        names: Sequence[str] | None = None,
        valid: tuple[datetime.datetime, datetime.datetime] = (VALID_FROM, VALID_TO),
        usage: x509.KeyUsage | None = key_usage(digital_signature=True),  # noqa: B008
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        subject: x509.Name | None = None,
    ) -> Holder:
        """A certificate for an end entity.

        ``names`` are subject alternative names: addresses, user@host or domain names (default: the common name).
        """
        key = private_key(kind, common_name)
        added = [*extensions, (x509.BasicConstraints(ca=False, path_length=None), True)]
        alternatives = [alternative_name(text) for text in ((common_name,) if names is None else names)]
        if alternatives:
            added.append((x509.SubjectAlternativeName(alternatives), False))
        if usage is not None:
            added.append((usage, True))
        name = distinguished_name(common_name) if subject is None else subject
        certificate = _certify(name, key, self.name, self.key, valid, added)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Holder(certificate, pem, self.chain)


def self_signed(common_name: str, kind: str = "p256") -> Holder:
    """An end entity that is its own issuer, to be pinned."""
    key, name = private_key(kind, common_name), distinguished_name(common_name)
    added: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.SubjectAlternativeName([alternative_name(common_name)]), False),
    ]
    certificate = _certify(name, key, name, key, (VALID_FROM, VALID_TO), added)
    return Holder(certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), ())


def alternative_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.RFC822Name(text) if "@" in text else x509.DNSName(text)


def _certify(
    subject: x509.Name,
    key: PrivateKey,
    issuer: x509.Name,
    issuer_key: PrivateKey,
    valid: tuple[datetime.datetime, datetime.datetime],
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> bytes:
    public_key = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    identity = hashlib.sha256(subject.public_bytes() + public_key + repr(valid).encode()).digest()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(identity[:19], "big") | 1 << 150)
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    if isinstance(issuer_key, Ed25519PrivateKey):
        return builder.sign(issuer_key, None).public_bytes(Encoding.DER)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.DER)
