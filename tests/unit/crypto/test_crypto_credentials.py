"""What the core asks of Credentials: both sides of an authentication, and what is wrong with configured secrets."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certificates import WALL_TIME, Authority, self_signed
from ipsecha.crypto.certificates import load_certificates
from ipsecha.crypto.credentials import ConnectionSecrets, Credentials
from ipsecha.model.errors import CryptoError
from ipsecha.model.identity import parse_identity
from ipsecha.model.numbers import Prf

OCTETS = b"signed octets"
HASHES = (2, 3, 4, 5)
GATEWAY = parse_identity("gw.example.org")


@pytest.fixture(scope="module")
def root() -> Authority:
    return Authority()


def credentials_of(root: Authority, kind: str = "p256") -> Credentials:
    holder = Authority("Below", issuer=root).issue("gw.example.org", kind)
    secrets = ConnectionSecrets(chain=holder.chain, private_key=holder.private_key, ca=(root.certificate,))
    return Credentials({"certificates": secrets, "psk": ConnectionSecrets(psk=b"a shared secret")})


@pytest.mark.parametrize("kind", ["rsa", "p256", "ed25519"])
def test_signer_and_verifier_meet(root: Authority, kind: str) -> None:
    credentials = credentials_of(root, kind)
    signer = credentials.signer("certificates")
    assert signer is not None
    assert signer.has_identity(GATEWAY)
    assert not signer.has_identity(parse_identity("other.example.org"))
    method, data = signer.sign(OCTETS, HASHES)
    credentials.verify("certificates", GATEWAY, signer.chain, method, data, OCTETS, WALL_TIME)
    with pytest.raises(CryptoError, match="signature does not verify"):
        credentials.verify("certificates", GATEWAY, signer.chain, method, data, OCTETS + b"!", WALL_TIME)
    other = parse_identity("other.example.org")
    with pytest.raises(CryptoError, match="not for the identity other"):
        credentials.verify("certificates", other, signer.chain, method, data, OCTETS, WALL_TIME)
    with pytest.raises(CryptoError, match="has sent no certificate"):
        credentials.verify("certificates", GATEWAY, (), method, data, OCTETS, WALL_TIME)
    with pytest.raises(CryptoError, match="expired on 2099-12-31"):
        credentials.verify("certificates", GATEWAY, signer.chain, method, data, OCTETS, 4.2e9)
    for connection in ("psk", "unknown"):
        with pytest.raises(CryptoError, match="no CA is configured"):
            credentials.verify(connection, GATEWAY, signer.chain, method, data, OCTETS, WALL_TIME)


def test_a_pinned_peer_need_not_send_its_certificate(root: Authority) -> None:
    """RFC 7296 section 3.6: a CERT payload is optional where the other side has the certificate."""
    peer = self_signed("gw.example.org")
    ours = Credentials({"a": ConnectionSecrets(ca=(root.certificate, peer.certificate))})
    theirs = Credentials({"a": ConnectionSecrets(chain=peer.chain, private_key=peer.private_key)})
    signer = theirs.signer("a")
    assert signer is not None
    method, data = signer.sign(OCTETS, None)
    ours.verify("a", GATEWAY, (), method, data, OCTETS, WALL_TIME)
    ours.verify("a", GATEWAY, peer.chain, method, data, OCTETS, WALL_TIME)


def test_certreq_names_cas_by_hash_of_their_key(root: Authority) -> None:
    """RFC 7296 section 3.7: SHA-1 of the SubjectPublicKeyInfo, 20 octets each."""
    key = x509.load_der_x509_certificate(root.certificate).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    credentials = credentials_of(root)
    assert credentials.certreq("certificates") == (hashlib.sha1(info).digest(),)
    assert credentials.certreq("psk") == credentials.certreq("unknown") == ()


def test_shared_secrets_are_per_connection(root: Authority) -> None:
    credentials = credentials_of(root)
    prepared = credentials.psk("psk", GATEWAY)
    assert prepared is not None
    assert prepared is credentials.psk("psk", None)
    assert len(prepared.auth(Prf.HMAC_SHA2_256, OCTETS)) == 32
    assert credentials.psk("certificates", GATEWAY) is None
    assert credentials.signer("psk") is None


def test_secrets_that_cannot_be_used_name_their_connection(root: Authority) -> None:
    one, other = root.issue("one.example.org"), root.issue("other.example.org")
    for secrets, reason in (
        (ConnectionSecrets(psk=b""), "the shared secret is empty"),
        (ConnectionSecrets(private_key=one.private_key), "needs the certificate that belongs to it"),
        (
            ConnectionSecrets(chain=one.chain, private_key=other.private_key),
            "the private key does not belong to the certificate of one.example.org",
        ),
        (ConnectionSecrets(chain=(b"x",), private_key=one.private_key), "a certificate cannot be read"),
        (ConnectionSecrets(chain=one.chain, private_key=b"x"), "the private key cannot be read"),
        (ConnectionSecrets(ca=(b"x",)), "a certificate cannot be read"),
    ):
        with pytest.raises(CryptoError, match=f"^connection 'office': .*{reason}"):
            Credentials({"office": secrets})


def test_no_secret_in_repr(root: Authority) -> None:
    """Invariant I6."""
    credentials = credentials_of(root)
    shown = repr(credentials) + repr(credentials.signer("certificates")) + repr(credentials.psk("psk", None))
    shown += repr(ConnectionSecrets(psk=b"a shared secret", private_key=b"PRIVATE"))
    assert shown == (
        "Credentials(1 shared secrets, 1 private keys)Signer('gw.example.org')PreparedPsk(...)ConnectionSecrets(...)"
    )


def test_certificate_files(root: Authority) -> None:
    holder = Authority("Below", issuer=root).issue("gw.example.org")
    assert load_certificates(holder.pem) == holder.chain
    assert load_certificates(b"a comment\n" + holder.pem + holder.private_key) == holder.chain
    assert load_certificates(root.certificate) == (root.certificate,)
    for wrong, reason in (
        (b"", "cannot be read"),
        (b"rubbish", "cannot be read"),
        (holder.private_key, "no certificate can be read"),
        (holder.pem[:200], "no certificate can be read"),
    ):
        with pytest.raises(CryptoError, match=reason):
            load_certificates(wrong)
