"""The cluster's own CA: a handful of certificates by which the members know each other on the synch channel.

ECDSA on P-256 throughout.  A member's private key is made where it is used and never leaves: what travels is a
certificate request (CSR) and what comes back a certificate.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ipsecha.gateway.config_source import read_regular_file, reason_of
from ipsecha.gateway.config_values import Wrong, member_name, name
from ipsecha.model.errors import ClusterError

AUTHORITY_DAYS = 20 * 365
MEMBER_DAYS = 10 * 365
MAX_PEM = 64 * 1024
_SKEW = datetime.timedelta(days=1)
"""Certificates begin a day ago: the members' clocks need not agree."""
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)


class Authority(NamedTuple):
    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return _attribute(self.certificate.subject, NameOID.ORGANIZATION_NAME)

    def __repr__(self) -> str:
        return f"Authority({self.cluster!r})"


def create_authority(cluster: str, now: datetime.datetime) -> Authority:
    """A new CA for the cluster.  Raises ClusterError for a name that cannot be one."""
    _checked(name, cluster)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(cluster, f"{cluster} cluster CA")
    builder = _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(key_usage(ca=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def create_request(member: str, private_pem: bytes = b"") -> tuple[bytes, bytes]:
    """A member's private key, a new one where it has none, and the request for its certificate, both PEM.

    Raises ClusterError where ``private_pem`` is not such a key.
    """
    _checked(member_name, member)
    key = _private_key(private_pem) if private_pem else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, member)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return _private_pem(key), request.public_bytes(Encoding.PEM)


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = _parsed_key(pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ClusterError("not a member's private key (PEM, P-256)")
    return key


def _parsed_key(pem: bytes) -> PrivateKeyTypes | None:
    """None: not a private key in PEM."""
    try:
        return load_pem_private_key(pem, None)
    except _UNREADABLE:
        return None


def parse_request(pem: bytes) -> x509.CertificateSigningRequest:
    """A certificate request whose signature holds.  Raises ClusterError for anything else."""
    try:
        request = x509.load_pem_x509_csr(pem[:MAX_PEM])
        key, valid = request.public_key(), request.is_signature_valid
    except _UNREADABLE:
        raise ClusterError("not a certificate request (PEM)") from None
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ClusterError("a certificate request must be signed with its own key, on P-256")
    return request


def requested_member(request: x509.CertificateSigningRequest) -> str:
    """The member's name in a request.  Raises ClusterError where it is none."""
    return _checked(member_name, _attribute(request.subject, NameOID.COMMON_NAME))


def issue(authority: Authority, request: x509.CertificateSigningRequest, now: datetime.datetime) -> bytes:
    """The member's certificate, PEM: only the name and the key are taken from the request."""
    member, key = requested_member(request), request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    builder = _builder(_subject(authority.cluster, member), authority.certificate.subject, key, now, MEMBER_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(key_usage(ca=False), critical=True)
    uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = builder.add_extension(uses, critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(member)]), critical=False)
    return builder.sign(authority.private_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def check_member_certificate(certificate: x509.Certificate, authority: x509.Certificate, now: datetime.datetime) -> str:
    """The name of the member that ``certificate`` is for.

    Raises ClusterError where the authority has not signed it, where it is no CA, or outside of the validity period.
    """
    try:
        certificate.verify_directly_issued_by(authority)
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (*_UNREADABLE, InvalidSignature, x509.ExtensionNotFound):
        raise ClusterError("the certificate is not signed by the cluster's CA") from None
    if not constraints.ca:
        raise ClusterError("the certificate is not signed by a CA")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ClusterError("the certificate has expired, or the clock of one member is wrong")
    return _attribute(certificate.subject, NameOID.COMMON_NAME)


def fingerprint(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the certificate, 32 octets."""
    return certificate.fingerprint(hashes.SHA256())


def readable_fingerprint(key: x509.CertificateSigningRequest | x509.Certificate) -> str:
    """A short name of a public key that two people can compare over the telephone."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    text = digest.finalize()[:16].hex()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def parse_certificate(pem: bytes) -> x509.Certificate:
    """Raises ClusterError where the octets are no certificate in PEM."""
    try:
        return x509.load_pem_x509_certificate(pem[:MAX_PEM])
    except _UNREADABLE:
        raise ClusterError("not a certificate (PEM)") from None


class MemberFiles(NamedTuple):
    """Where ``ipsecha cluster`` keeps what a member needs: ca.crt, NAME.crt, NAME.key, and on one member ca.key."""

    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def ca_key(self) -> Path:
        return self.directory / "ca.key"

    def certificate(self, member: str) -> Path:
        return self.directory / f"{member}.crt"

    def private_key(self, member: str) -> Path:
        return self.directory / f"{member}.key"

    def init(self, cluster: str, member: str, now: datetime.datetime) -> Authority:
        """Make the CA and the first member's certificate.  Raises ClusterError where there is a CA already."""
        if self.ca.exists() or self.ca_key.exists():
            raise ClusterError(f"{self.directory} holds a cluster's CA already: remove it to make a new one")
        authority = create_authority(cluster, now)
        private_pem, request = create_request(member)
        certificate = issue(authority, parse_request(request), now)
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_new(self.private_key(member), private_pem, secret=True)
        write_new(self.certificate(member), certificate)
        write_new(self.ca_key, _private_pem(authority.private_key), secret=True)
        write_new(self.ca, authority.certificate.public_bytes(Encoding.PEM))
        return authority

    def authority(self) -> Authority:
        """The CA with its key.  Raises ClusterError where this member does not have it."""
        certificate = parse_certificate(read_pem(self.ca))
        key = _parsed_key(read_pem(self.ca_key))
        if key is None:
            raise ClusterError(f"{self.ca_key} is not a private key (PEM)")
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ClusterError(f"{self.ca_key} does not belong to {self.ca}")
        return Authority(certificate, key)

    def own_member(self) -> str:
        """The one member whose key and certificate are here.  Raises ClusterError where that is not clear."""
        authority = parse_certificate(read_pem(self.ca))
        members = []
        for path in sorted(self.directory.glob("*.key")):
            with contextlib.suppress(ClusterError):
                certificate = parse_certificate(read_pem(path.with_suffix(".crt")))
                if certificate.issuer == authority.subject and path != self.ca_key:
                    members.append(path.stem)
        if len(members) != 1:
            found = ", ".join(members) or "none"
            raise ClusterError(f"expected key and certificate of one member in {self.directory}, found {found}")
        return members[0]

    def install(self, member: str, certificate_pem: bytes, ca_pem: bytes, now: datetime.datetime) -> None:
        """Put a certificate beside the key that it was requested with.  Raises ClusterError where they do not fit."""
        certificate, authority = parse_certificate(certificate_pem), parse_certificate(ca_pem)
        found = check_member_certificate(certificate, authority, now)
        if found != member:
            raise ClusterError(f'the certificate is for the member "{found}", expected "{member}"')
        key = _parsed_key(read_pem(self.private_key(member)))
        if key is None:
            raise ClusterError(f"{self.private_key(member)} is not a private key (PEM)")
        if key.public_key() != certificate.public_key():
            raise ClusterError(f"the certificate does not belong to {self.private_key(member)}")
        if self.ca.exists() and parse_certificate(read_pem(self.ca)) != authority:
            raise ClusterError(f"{self.ca} is the CA of another cluster: remove it to join this one")
        write_atomically(self.certificate(member), certificate_pem)
        write_atomically(self.ca, ca_pem)


def split_bundle(pem: bytes) -> tuple[bytes, bytes]:
    """The certificate and the CA in what ``ipsecha cluster sign`` wrote.  Raises ClusterError for anything else."""
    try:
        found = x509.load_pem_x509_certificates(pem[:MAX_PEM])
    except _UNREADABLE:
        found = []
    if len(found) != 2:
        raise ClusterError("expected the file that ipsecha cluster sign has written: a certificate and the CA's")
    return found[0].public_bytes(Encoding.PEM), found[1].public_bytes(Encoding.PEM)


def read_pem(path: Path) -> bytes:
    """Raises ClusterError where the file cannot be read."""
    try:
        return read_regular_file(path, MAX_PEM)
    except (OSError, ValueError) as error:
        raise ClusterError(f"cannot read {path}: {reason_of(error)}") from None


def write_new(path: Path, data: bytes, *, secret: bool = False) -> None:
    """Write a file that must not be there yet; a secret is never readable by others, not even for a moment.

    Raises ClusterError where the file exists or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600 if secret else 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except FileExistsError:
        raise ClusterError(f"{path} is there already: nothing was overwritten") from None
    except OSError as error:
        raise ClusterError(f"cannot write {path}: {reason_of(error)}") from None


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that may be there already; whoever reads it sees the old one or the new one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    write_new(fresh, data)
    try:
        os.replace(fresh, path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ClusterError(f"cannot write {path}: {reason_of(error)}") from None


def _checked(check: Callable[[object], str], value: str) -> str:
    try:
        return check(value)
    except Wrong as wrong:
        raise ClusterError(wrong.text) from None


def _attribute(subject: x509.Name, kind: x509.ObjectIdentifier) -> str:
    found = subject.get_attributes_for_oid(kind)
    return str(found[0].value) if found else ""


def _subject(cluster: str, common_name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def key_usage(*, ca: bool) -> x509.KeyUsage:
    """Of an authority, or of who authenticates itself."""
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
