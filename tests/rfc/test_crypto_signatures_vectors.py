"""AUTH by signatures: RFC 4754 section 8, RFC 7427 appendix A, RFC 8420 appendix A, RFC 8247, Wycheproof."""

from __future__ import annotations

import pytest
from crypto_vectors import load, wycheproof
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ipsecha.crypto.authentication import verify
from ipsecha.crypto.keys import VerifyingKey, accepted_public_key
from ipsecha.crypto.signature_schemes import IDENTIFIERS, Padding, Scheme, parse_identifier
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import AuthMethod, HashAlgorithm

SUPPORTED = {
    "sha256WithRSAEncryption": Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_256),
    "sha384WithRSAEncryption": Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_384),
    "sha512WithRSAEncryption": Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_512),
    "ecdsa-with-sha256": Scheme(Padding.ECDSA, HashAlgorithm.SHA2_256),
    "ecdsa-with-sha384": Scheme(Padding.ECDSA, HashAlgorithm.SHA2_384),
    "ecdsa-with-sha512": Scheme(Padding.ECDSA, HashAlgorithm.SHA2_512),
    "RSASSA-PSS with SHA-256": Scheme(Padding.RSA_PSS, HashAlgorithm.SHA2_256, 32),
}


def test_algorithm_identifiers_of_rfc_7427() -> None:
    """RFC 7427 appendix A: what we send is byte for byte what is printed; RFC 8247 sections 3.2 and 3.2.1: SHA-1 and
    RSASSA-PSS with empty or default parameters MUST NOT be used."""
    blobs = {blob["name"]: bytes.fromhex(blob["der"]) for blob in load("rfc7427_algorithm_identifiers.json")["blobs"]}
    for name, scheme in SUPPORTED.items():
        assert IDENTIFIERS[scheme] == blobs[name]
        assert parse_identifier(blobs[name]) == scheme
    for name in blobs.keys() - SUPPORTED.keys():
        with pytest.raises(CryptoError, match=r"SHA-1|not supported"):
            parse_identifier(blobs[name])
    for name in blobs.keys() - SUPPORTED.keys() - {"dsa-with-sha256"}:
        with pytest.raises(CryptoError, match="RFC 8247 forbids"):
            parse_identifier(blobs[name])


def test_identifier_of_rfc_8420() -> None:
    """RFC 8420 appendix A.1: Ed25519 without parameters."""
    assert IDENTIFIERS[Scheme(Padding.ED25519, HashAlgorithm.IDENTITY)] == bytes.fromhex("300506032b6570")


def test_ecdsa_256_of_rfc_4754() -> None:
    """RFC 4754 sections 7 and 8.1: the signature of method 9 is r | s."""
    key = ec.EllipticCurvePublicNumbers(
        0x2442A5CC0ECD015FA3CA31DC8E2BBC70BF42D60CBCA20085E0822CB04235E970,
        0x6FC98BD7E50211A4A27102FA3549DF79EBCB4BF246B80945CDDFE7D509BBFD7D,
        ec.SECP256R1(),
    ).public_key()
    auth_payload = bytes.fromhex(
        "0000004800090000CB28E0999B9C7715FD0A80D8E47A77079716CBBF917DD72E97566EA1C066957C"
        "86FA3BB4E26CAD5BF90B7F81899256CE7594BB1EA0C89212748BFF3B3D5B0315"
    )
    verify(key, AuthMethod.ECDSA_256, auth_payload[8:], b"abc")
    for wrong in (auth_payload[8:-1], auth_payload[8:] + b"\0", auth_payload[8:-1] + b"\0"):
        with pytest.raises(CryptoError):
            verify(key, AuthMethod.ECDSA_256, wrong, b"abc")


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("rsa_signature_2048_sha256", Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_256)),
        ("rsa_pss_2048_sha256_mgf1_32", Scheme(Padding.RSA_PSS, HashAlgorithm.SHA2_256, 32)),
        ("ecdsa_secp256r1_sha256", Scheme(Padding.ECDSA, HashAlgorithm.SHA2_256)),
        ("ecdsa_secp384r1_sha384", Scheme(Padding.ECDSA, HashAlgorithm.SHA2_384)),
        ("ecdsa_secp521r1_sha512", Scheme(Padding.ECDSA, HashAlgorithm.SHA2_512)),
        ("ed25519", Scheme(Padding.ED25519, HashAlgorithm.IDENTITY)),
    ],
)
def test_digital_signatures_against_wycheproof(name: str, scheme: Scheme) -> None:
    """RFC 7427 section 3: length | AlgorithmIdentifier | signature; ECDSA's in DER."""
    identifier = IDENTIFIERS[scheme]
    verdicts: dict[bool, int] = {True: 0, False: 0}
    keys: dict[str, VerifyingKey] = {}
    for group, test in wycheproof(name):
        if test["result"] == "acceptable":
            continue
        der = group["publicKeyDer"]
        if der not in keys:
            keys[der] = accepted_public_key(load_der_public_key(bytes.fromhex(der)))
        auth_data = bytes((len(identifier),)) + identifier + bytes.fromhex(test["sig"])
        try:
            verify(keys[der], AuthMethod.DIGITAL_SIGNATURE, auth_data, bytes.fromhex(test["msg"]))
            accepted = True
        except CryptoError:
            accepted = False
        assert accepted is (test["result"] == "valid"), (name, test["tcId"], test["comment"])
        verdicts[accepted] += 1
    assert min(verdicts.values()) >= 9
