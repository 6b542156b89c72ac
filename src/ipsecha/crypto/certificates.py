"""X.509 certificates: reading them, and what of them IKE looks at (RFC 5280, RFC 4945 section 5.1)."""

from __future__ import annotations

import hashlib
import warnings

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from ipsecha.crypto.keys import VerifyingKey, accepted_public_key
from ipsecha.model.errors import CryptoError
from ipsecha.model.identity import Identity
from ipsecha.model.numbers import IdType

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

_CERTIFICATE_LONGEST = 65535  # octets: what a CERT payload can hold

_UNDERSTOOD = frozenset(
    (
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,  # any policy will do (RFC 5280 section 6.1.1 (c))
    )
)
"""Extensions that may be critical."""

_IKE_USES = frozenset(
    (
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.17"),  # id-kp-ipsecIKE (RFC 4945)
        x509.ObjectIdentifier("1.3.6.1.5.5.8.2.2"),  # iKEIntermediate, of older products
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        ExtendedKeyUsageOID.SERVER_AUTH,  # what public and company CAs put into certificates of gateways
        ExtendedKeyUsageOID.CLIENT_AUTH,
    )
)


class Certificate:
    """A certificate that could be read, with everything that validation asks for.

    ``not_before`` and ``not_after`` are seconds since 1970; ``path_length`` None is "no limit"; ``subject`` and
    ``issuer`` are DER names; ``name`` is for messages and safe to print.
    """

    __slots__ = (
        "alternative_names",
        "der",
        "extended_usages",
        "is_ca",
        "issuer",
        "name",
        "not_after",
        "not_before",
        "path_length",
        "public_key",
        "subject",
        "unknown_critical",
        "usage",
        "x509",
    )

    def __init__(self, der: bytes) -> None:
        """Raises CryptoError where the octets are no certificate, or its key is of a kind that is not accepted."""
        if len(der) > _CERTIFICATE_LONGEST:
            raise CryptoError("a certificate is larger than 65535 octets")
        self.der = der
        try:
            with warnings.catch_warnings():
                # the library warns of oddities (negative serial numbers, lengths of names ...) that strangers'
                # certificates may have: each would be a line of log
                warnings.simplefilter("ignore")
                self.x509 = x509.load_der_x509_certificate(der)
                self._read_fields()
        except _UNREADABLE as error:
            raise CryptoError(f"a certificate cannot be read: {printable(str(error))}") from None

    def _read_fields(self) -> None:
        certificate = self.x509
        self.subject = certificate.subject.public_bytes()
        self.issuer = certificate.issuer.public_bytes()
        self.not_before = certificate.not_valid_before_utc.timestamp()
        self.not_after = certificate.not_valid_after_utc.timestamp()
        self._read_extensions(certificate.extensions)
        self.name = _display_name(certificate.subject, self.alternative_names)
        try:
            self.public_key: VerifyingKey = accepted_public_key(certificate.public_key())
        except CryptoError as error:
            raise CryptoError(f"certificate of {self.name}: {error}") from None

    def _read_extensions(self, extensions: x509.Extensions) -> None:
        self.is_ca, self.path_length = False, None
        self.usage: x509.KeyUsage | None = None
        self.extended_usages: frozenset[x509.ObjectIdentifier] | None = None
        self.alternative_names: tuple[x509.GeneralName, ...] = ()
        self.unknown_critical = ""
        for extension in extensions:
            value = extension.value
            if isinstance(value, x509.BasicConstraints):
                self.is_ca, self.path_length = value.ca, value.path_length
            elif isinstance(value, x509.KeyUsage):
                self.usage = value
            elif isinstance(value, x509.ExtendedKeyUsage):
                self.extended_usages = frozenset(value)
            elif isinstance(value, x509.SubjectAlternativeName):
                self.alternative_names = tuple(value)
            # a name constraint must never be passed over, whether it is marked critical or not
            refused = extension.critical and extension.oid not in _UNDERSTOOD
            if refused or extension.oid == ExtensionOID.NAME_CONSTRAINTS:
                self.unknown_critical = extension.oid.dotted_string

    @property
    def is_self_issued(self) -> bool:
        return self.subject == self.issuer

    def check_validity(self, wall_time: float) -> None:
        """Raises CryptoError outside of the validity period."""
        if wall_time < self.not_before:
            raise CryptoError(
                f"certificate of {self.name} is not valid before {self.x509.not_valid_before_utc:%Y-%m-%d}"
            )
        if wall_time > self.not_after:
            raise CryptoError(f"certificate of {self.name} expired on {self.x509.not_valid_after_utc:%Y-%m-%d}")

    def check_extensions(self) -> None:
        """Raises CryptoError for an extension that must not be ignored and is not understood (RFC 5280 section 4.2)."""
        if self.unknown_critical:
            raise CryptoError(
                f"certificate of {self.name} has extension {self.unknown_critical}, which is not supported"
            )

    def check_end_entity(self) -> None:
        """Raises CryptoError where the key may not sign in IKE (RFC 4945 sections 5.1.3.2 and 5.1.3.12)."""
        if self.usage is not None and not (self.usage.digital_signature or self.usage.content_commitment):
            raise CryptoError(f"certificate of {self.name} is not for signatures (key usage)")
        if self.extended_usages is not None and not self.extended_usages & _IKE_USES:
            raise CryptoError(f"certificate of {self.name} is not for IKE (extended key usage)")

    def check_authority(self, below: int) -> None:
        """Raises CryptoError where this may not issue a certificate with ``below`` CA certificates between it and the
        end entity (RFC 5280 section 6.1.4 (k) to (n))."""
        if not self.is_ca:
            raise CryptoError(f"certificate of {self.name} is not a CA certificate, but has issued one")
        if self.usage is not None and not self.usage.key_cert_sign:
            raise CryptoError(f"certificate of CA {self.name} is not for signing certificates (key usage)")
        if self.path_length is not None and below > self.path_length:
            raise CryptoError(f"CA {self.name} allows {self.path_length} CAs below it, not {below} (path length)")

    def is_signed_by(self, issuer: Certificate) -> bool:
        """Whether the signature is the issuer's; raises CryptoError where it is made with SHA-1 or worse."""
        try:
            algorithm = self.x509.signature_hash_algorithm  # None: Ed25519
            if algorithm is not None and not isinstance(algorithm, SHA256 | SHA384 | SHA512):
                raise CryptoError(f"certificate of {self.name} is signed with {algorithm.name}, which is not accepted")
            self.x509.verify_directly_issued_by(issuer.x509)
        except InvalidSignature:
            return False
        except _UNREADABLE as error:
            raise CryptoError(f"certificate of {self.name}: {printable(str(error))}") from None
        return True

    def __repr__(self) -> str:
        return f"Certificate({self.name!r})"


def load_certificates(data: bytes) -> tuple[bytes, ...]:
    """The certificates of a file, DER: any number in PEM (an end entity's first, as usual), or one in DER.

    Raises CryptoError where there is none, or one of them cannot be read or used.
    """
    if b"-----BEGIN" in data:
        try:
            ders = tuple(entry.public_bytes(Encoding.DER) for entry in x509.load_pem_x509_certificates(data))
        except _UNREADABLE as error:
            raise CryptoError(f"no certificate can be read: {error}") from None
    else:
        ders = (data,)
    for der in ders:
        Certificate(der)
    return ders


def authority_hash(certificate: Certificate) -> bytes:
    """What CERTREQ names a CA by: the SHA-1 of its SubjectPublicKeyInfo, 20 octets (RFC 7296 section 3.7)."""
    info = certificate.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha1(info, usedforsecurity=False).digest()


def subject_identity(der: bytes) -> Identity:
    """The subject of a certificate as an identity: what to claim with it where nothing else is configured."""
    return Identity(IdType.DER_ASN1_DN, Certificate(der).subject)


def printable(text: str) -> str:
    """Text of a stranger, made safe for a line of log."""
    return "".join(char if char.isprintable() else "?" for char in text[:120])


def _display_name(subject: x509.Name, alternative_names: tuple[x509.GeneralName, ...]) -> str:
    common_names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if common_names:
        value = common_names[0].value
        return printable(value if isinstance(value, str) else value.hex())
    for name in alternative_names:
        if isinstance(name, x509.DNSName | x509.RFC822Name | x509.IPAddress):
            return printable(str(name.value))
    return printable(subject.rfc4514_string()) or "(no name)"
