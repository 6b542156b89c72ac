"""AUTH by shared keys and by signatures, and the choice between the ways to sign."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from certificates import private_key
from ipsecha.crypto.authentication import PreparedPsk, psk_auth, sign, signed_octets, verify
from ipsecha.crypto.keys import load_private_key
from ipsecha.crypto.prf import prf
from ipsecha.crypto.signature_schemes import IDENTIFIERS, Padding, Scheme, parse_identifier
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import AuthMethod, HashAlgorithm, Prf

OCTETS = b"the octets that are signed" * 20
ALL = (HashAlgorithm.SHA2_256, HashAlgorithm.SHA2_384, HashAlgorithm.SHA2_512, HashAlgorithm.IDENTITY)
KINDS = ["rsa", "p256", "p384", "p521", "ed25519"]


def key_of(kind: str) -> Any:
    return private_key(kind, "authentication")


def pss_identifier(hash_oid: str, salt: int, *, mask_oid: str = "", trailer: bytes = b"") -> bytes:
    """RSASSA-PSS with explicit parameters (RFC 4055 section 3.1)."""

    def wrap(tag: int, content: bytes) -> bytes:
        return bytes((tag, len(content))) + content

    def algorithm(oid: bytes, parameters: bytes) -> bytes:
        return wrap(0x30, wrap(6, oid) + parameters)

    digest = algorithm(bytes.fromhex(hash_oid), b"\5\0")
    mask_digest = algorithm(bytes.fromhex(mask_oid or hash_oid), b"\5\0")
    mask = algorithm(bytes.fromhex("2a864886f70d010108"), mask_digest)
    parameters = wrap(0xA0, digest) + wrap(0xA1, mask) + wrap(0xA2, wrap(2, bytes((salt,)))) + trailer
    return algorithm(bytes.fromhex("2a864886f70d01010a"), wrap(0x30, parameters))


SHA256, SHA384, SHA512, SHA1 = "608648016503040201", "608648016503040202", "608648016503040203", "2b0e03021a"


@pytest.mark.parametrize("prf_id", list(Prf))
@pytest.mark.parametrize("secret", [b"s", b"\x00\xff" * 8, b"x" * 200, "Schlüssel".encode()])
def test_shared_key(prf_id: int, secret: bytes) -> None:
    """RFC 7296 section 2.15: AUTH = prf(prf(Shared Secret, "Key Pad for IKEv2"), <SignedOctets>), 17 octets of pad
    without a NUL; secrets of any length and content."""
    prepared = PreparedPsk(secret)
    expected = prf(prf_id, prf(prf_id, secret, b"Key Pad for IKEv2"), OCTETS)
    assert (
        prepared.auth(prf_id, OCTETS) == prepared.auth(prf_id, OCTETS) == psk_auth(prf_id, secret, OCTETS) == expected
    )
    prepared.verify(prf_id, OCTETS, expected)
    for octets, auth in ((OCTETS + b"!", expected), (OCTETS, expected[:-1]), (OCTETS, b""), (OCTETS, b"0" * 32)):
        with pytest.raises(CryptoError, match="shared secret"):
            prepared.verify(prf_id, octets, auth)
    assert repr(prepared) == "PreparedPsk(...)"


def test_shared_key_refuses_nothing_as_a_secret_and_unknown_prfs() -> None:
    with pytest.raises(CryptoError, match="empty"):
        PreparedPsk(b"")
    with pytest.raises(CryptoError, match="PRF 2"):
        PreparedPsk(b"secret").auth(2, OCTETS)


def test_signed_octets() -> None:
    """RFC 7296 section 2.15: RealMessage | Nonce of the peer | prf(SK_p, ID payload without its generic header)."""
    body = b"\x02\x00\x00\x00gw.example.org"
    octets = signed_octets(b"message", b"nonce", Prf.HMAC_SHA2_256, b"p" * 32, body)
    assert octets == b"message" + b"nonce" + prf(Prf.HMAC_SHA2_256, b"p" * 32, body)


@pytest.mark.parametrize("kind", KINDS)
def test_signatures_with_rfc_7427(kind: str) -> None:
    """RFC 7427 section 3: method 14."""
    method, data = sign(key_of(kind), OCTETS, ALL)
    assert method == AuthMethod.DIGITAL_SIGNATURE
    verify(key_of(kind).public_key(), method, data, OCTETS)
    assert data == sign(key_of(kind), OCTETS, ALL)[1]  # nothing random: simulations repeat, no nonce can go wrong
    for wrong, octets in ((data, OCTETS + b"!"), (data[:-1], OCTETS), (data[:1], OCTETS), (b"", OCTETS)):
        with pytest.raises(CryptoError):
            verify(key_of(kind).public_key(), method, wrong, octets)
    other = "rsa3072" if kind == "rsa" else kind
    with pytest.raises(CryptoError, match="does not verify"):
        verify(private_key(other, "another").public_key(), method, data, OCTETS)


@pytest.mark.parametrize(
    ("kind", "peer_hashes", "scheme"),
    [
        ("rsa", ALL, Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_256)),
        ("rsa", (4, 1), Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_512)),
        ("rsa", (3, 4), Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_384)),
        ("p256", ALL, Scheme(Padding.ECDSA, HashAlgorithm.SHA2_256)),
        ("p384", ALL, Scheme(Padding.ECDSA, HashAlgorithm.SHA2_384)),
        ("p384", (2,), Scheme(Padding.ECDSA, HashAlgorithm.SHA2_256)),
        ("p384", (2, 4), Scheme(Padding.ECDSA, HashAlgorithm.SHA2_512)),
        ("p521", ALL, Scheme(Padding.ECDSA, HashAlgorithm.SHA2_512)),
        ("p521", (2, 3), Scheme(Padding.ECDSA, HashAlgorithm.SHA2_384)),
        ("ed25519", ALL, Scheme(Padding.ED25519, HashAlgorithm.IDENTITY)),
    ],
)
def test_the_hash_is_one_that_the_peer_listed(kind: str, peer_hashes: tuple[int, ...], scheme: Scheme) -> None:
    """RFC 7427 section 4: the hash MUST be one that the other side sent in SIGNATURE_HASH_ALGORITHMS."""
    _, data = sign(key_of(kind), OCTETS, peer_hashes)
    assert parse_identifier(data[1 : 1 + data[0]]) == scheme


@pytest.mark.parametrize("kind", ["rsa", "p256"])
def test_sha1_is_never_signed_with(kind: str) -> None:
    """RFC 8247 section 3.1: SHA-1 signatures MUST NOT be made."""
    for peer_hashes in ((), (1,), (1, 5)):
        with pytest.raises(CryptoError, match="RFC 8247 forbids SHA-1"):
            sign(key_of(kind), OCTETS, peer_hashes)


def test_without_rfc_7427_rsa_and_ed25519_are_refused() -> None:
    with pytest.raises(CryptoError, match="RSA without them means SHA-1"):
        sign(key_of("rsa"), OCTETS, None)
    with pytest.raises(CryptoError, match="which an Ed25519 key needs"):
        sign(key_of("ed25519"), OCTETS, None)
    with pytest.raises(CryptoError, match="RFC 8420"):
        sign(key_of("ed25519"), OCTETS, (2, 3, 4))


@pytest.mark.parametrize(("kind", "method", "length"), [("p256", 9, 64), ("p384", 10, 96), ("p521", 11, 132)])
def test_ecdsa_without_rfc_7427(kind: str, method: int, length: int) -> None:
    """RFC 4754 sections 3 and 7: methods 9 to 11, r | s of fixed width."""
    key = key_of(kind)
    chosen, data = sign(key, OCTETS, None)
    assert (chosen, len(data)) == (method, length)
    verify(key.public_key(), method, data, OCTETS)
    for wrong in (data[1:], data + b"\0", bytes(length), b"\xff" * length, b""):
        with pytest.raises(CryptoError, match="does not verify"):
            verify(key.public_key(), method, wrong, OCTETS)
    for other in {9, 10, 11, 1, 2, 13} - {method}:
        with pytest.raises(CryptoError, match="does not go with"):
            verify(key.public_key(), other, data, OCTETS)


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_rsa_of_method_1_is_accepted_with_sha2(digest: hashes.HashAlgorithm) -> None:
    key = key_of("rsa")
    signature = key.sign(OCTETS, padding.PKCS1v15(), digest)
    verify(key.public_key(), AuthMethod.RSA, signature, OCTETS)
    with pytest.raises(CryptoError, match="SHA-2"):
        verify(key.public_key(), AuthMethod.RSA, signature, OCTETS + b"!")


def test_rsa_with_sha1_is_refused() -> None:
    """RFC 8247 section 3.1."""
    key = key_of("rsa")
    signature = key.sign(OCTETS, padding.PKCS1v15(), hashes.SHA1())
    with pytest.raises(CryptoError, match="SHA-1 is forbidden"):
        verify(key.public_key(), AuthMethod.RSA, signature, OCTETS)
    identifier = bytes.fromhex("300d06092a864886f70d0101050500")
    with pytest.raises(CryptoError, match="SHA-1"):
        verify(key.public_key(), 14, bytes((len(identifier),)) + identifier + signature, OCTETS)


@pytest.mark.parametrize(
    ("oid", "digest", "salt", "trailer"),
    [
        (SHA256, hashes.SHA256(), 32, b""),
        (SHA256, hashes.SHA256(), 20, b"\xa3\3\2\1\1"),
        (SHA384, hashes.SHA384(), 48, b""),
        (SHA512, hashes.SHA512(), 64, b"\xa3\3\2\1\1"),
        (SHA256, hashes.SHA256(), 0, b""),
    ],
)
def test_pss_with_explicit_parameters(oid: str, digest: hashes.HashAlgorithm, salt: int, trailer: bytes) -> None:
    """RFC 7427 appendix A.4.3, RFC 8247 section 3.2.1."""
    key = key_of("rsa")
    signature = key.sign(OCTETS, padding.PSS(padding.MGF1(digest), salt), digest)
    identifier = pss_identifier(oid, salt, trailer=trailer)
    verify(key.public_key(), 14, bytes((len(identifier),)) + identifier + signature, OCTETS)
    with pytest.raises(CryptoError, match="does not verify"):
        verify(key.public_key(), 14, bytes((len(identifier),)) + identifier + signature, OCTETS + b"!")


def test_pss_identifier_as_printed() -> None:
    printed = IDENTIFIERS[Scheme(Padding.RSA_PSS, HashAlgorithm.SHA2_256, 32)]
    assert pss_identifier(SHA256, 32, trailer=b"\xa3\3\2\1\1") == printed


@pytest.mark.parametrize(
    "identifier",
    [
        pss_identifier(SHA1, 20),
        pss_identifier(SHA256, 32, mask_oid=SHA512),
        pss_identifier(SHA256, 65),
        pss_identifier(SHA256, 0x80),  # negative
        pss_identifier(SHA256, 32, trailer=b"\xa3\3\2\1\2"),
        pss_identifier(SHA256, 32, trailer=b"\xa4\3\2\1\1"),
        bytes.fromhex("300d06092a864886f70d01010a3000"),
        bytes.fromhex("300b06092a864886f70d01010a"),
        bytes.fromhex("300506032b6571"),  # Ed448
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",
        b"\x30\x02\x05\x00",
        b"\x30\x00",
        b"\x31\x02\x06\x00",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x1f\x81\x01\x00",
    ],
    ids=bytes.hex,
)
def test_identifiers_that_are_refused(identifier: bytes) -> None:
    key = key_of("rsa")
    with pytest.raises(CryptoError):
        parse_identifier(identifier)
    with pytest.raises(CryptoError):
        verify(key.public_key(), 14, bytes((len(identifier),)) + identifier + bytes(256), OCTETS)


@pytest.mark.parametrize("kind", KINDS)
def test_schemes_of_other_keys_are_refused(kind: str) -> None:
    _, data = sign(key_of("p256" if kind in ("rsa", "ed25519") else "rsa"), OCTETS, ALL)
    with pytest.raises(CryptoError, match="does not go with"):
        verify(key_of(kind).public_key(), 14, data, OCTETS)


def test_weak_and_strange_keys_are_refused() -> None:
    """RFC 8247 section 3.1: RSA keys below 2048 bits MUST NOT be used."""
    weak = private_key("rsa1024", "weak")
    assert isinstance(weak, rsa.RSAPrivateKey)
    signature = weak.sign(OCTETS, padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(CryptoError, match="1024 bits"):
        verify(weak.public_key(), AuthMethod.RSA, signature, OCTETS)
    with pytest.raises(CryptoError, match="secp256k1"):
        verify(private_key("secp256k1", "strange").public_key(), 9, bytes(64), OCTETS)


def test_private_keys_are_read_or_refused_with_a_reason() -> None:
    key, clear = key_of("p256"), NoEncryption()
    for encoding in (Encoding.PEM, Encoding.DER):
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            loaded = load_private_key(key.private_bytes(encoding, form, clear))
            assert loaded.public_key() == key.public_key()
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame"))
    assert load_private_key(locked, b"open sesame").public_key() == key.public_key()
    with pytest.raises(CryptoError, match="a password is needed"):
        load_private_key(locked)
    with pytest.raises(CryptoError, match="cannot be read"):
        load_private_key(locked, b"wrong")
    with pytest.raises(CryptoError, match="is not encrypted"):
        load_private_key(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, clear), b"open sesame")
    with pytest.raises(CryptoError, match="cannot be read"):
        load_private_key(b"no key at all")
    with pytest.raises(CryptoError, match="RSA, ECDSA or Ed25519"):
        load_private_key(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, clear))
    with pytest.raises(CryptoError, match="1024 bits"):
        load_private_key(private_key("rsa1024", "weak").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, clear))


def test_ecdsa_falls_back_where_the_library_is_not_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older(ec.ECDSA):
        def __init__(self, algorithm: hashes.HashAlgorithm, deterministic_signing: bool = False) -> None:
            if deterministic_signing:
                raise UnsupportedAlgorithm("ECDSA with deterministic signature (RFC 6979) is not supported")
            super().__init__(algorithm)

    monkeypatch.setattr(ec, "ECDSA", Older)
    method, data = sign(key_of("p256"), OCTETS, ALL)
    verify(key_of("p256").public_key(), method, data, OCTETS)
