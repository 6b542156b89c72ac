"""A certification authority for the lab: end entity certificates of every kind that peers authenticate with."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from ipsecha.gateway.pki import key_usage

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_GENERATORS: dict[str, Callable[[], PrivateKey]] = {
    "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "rsa4096": lambda: rsa.generate_private_key(public_exponent=65537, key_size=4096),
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
KEY_KINDS = tuple(_GENERATORS)


class Credential(NamedTuple):
    """A private key with its certificate and the authorities between it and the root, all PEM."""

    certificate: bytes
    private_key: bytes
    intermediates: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Credential({len(self.certificate)} octets of PEM, {len(self.intermediates)} intermediates)"


class Authority:
    """A CA with a key of ``kind``; with ``parent``, an intermediate one."""

    def __init__(self, name: str, kind: str = "ecdsa", parent: Authority | None = None) -> None:
        self.parent = parent
        self.subject = _subject(name)
        self._key = _GENERATORS[kind]()
        builder = _builder(self.subject, parent.subject if parent else self.subject, self._key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(key_usage(ca=True), critical=True)
        self.x509 = _sign(builder, parent._key if parent else self._key)

    @property
    def certificate(self) -> bytes:
        """The CA's own certificate, PEM."""
        return self.x509.public_bytes(serialization.Encoding.PEM)

    @property
    def intermediates(self) -> tuple[bytes, ...]:
        """This authority and those above it, without the root, PEM."""
        return (self.certificate, *self.parent.intermediates) if self.parent else ()

    def issue(
        self,
        name: str,
        kind: str = "ecdsa",
        *,
        lifetime_days: float = 30.0,
        padding: int = 0,
        names: Sequence[str] = (),
    ) -> Credential:
        """A certificate for the domain name or IP address ``name`` (and ``names``).

        A negative ``lifetime_days`` gives one that has expired; ``padding`` octets in an extension that nobody reads
        make it as large as a test of fragmentation needs it.
        """
        key = _GENERATORS[kind]()
        builder = _builder(_subject(name), self.subject, key, lifetime_days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(key_usage(ca=False), critical=True)
        alternative = x509.SubjectAlternativeName([_general_name(text) for text in (name, *names)])
        builder = builder.add_extension(alternative, critical=False)
        if padding:
            comment = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.16.840.1.113730.1.13"), _ia5(padding))
            builder = builder.add_extension(comment, critical=False)
        certificate = _sign(builder, self._key)
        return Credential(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            self.intermediates,
        )


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ipsecha lab"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, lifetime_days: float = 30.0
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=lifetime_days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - datetime.timedelta(days=1))
        .not_valid_after(end)
    )


def _sign(builder: x509.CertificateBuilder, key: PrivateKey) -> x509.Certificate:
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _ia5(length: int) -> bytes:
    """A DER IA5String of ``length`` characters."""
    return b"\x16\x82" + length.to_bytes(2, "big") + b"x" * length
