"""Signature keys: which ones are accepted (RFC 8247 section 3.1) and how private ones are read."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from ipsecha.model.errors import CryptoError

SigningKey = RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey
VerifyingKey = RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey

RSA_SHORTEST_BITS = 2048
RSA_LONGEST_BITS = 8192  # what a stranger may make us compute with
CURVES = ("secp256r1", "secp384r1", "secp521r1")


def accepted_public_key(key: object) -> VerifyingKey:
    """``key`` where it is of a kind and size that authenticates; raises CryptoError otherwise."""
    if isinstance(key, RSAPublicKey):
        if RSA_SHORTEST_BITS <= key.key_size <= RSA_LONGEST_BITS:
            return key
        raise CryptoError(
            f"RSA keys of {key.key_size} bits are not accepted: {RSA_SHORTEST_BITS} to {RSA_LONGEST_BITS} are"
        )
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in CURVES:
            return key
        raise CryptoError(f"keys on the curve {key.curve.name} are not accepted")
    if isinstance(key, Ed25519PublicKey):
        return key
    raise CryptoError("keys are accepted where they are RSA, ECDSA (P-256, P-384, P-521) or Ed25519")


def load_private_key(data: bytes, password: bytes | None = None) -> SigningKey:
    """A private key from PEM or DER (PKCS #8 or traditional).

    Raises CryptoError for what is unreadable, encrypted without a password, or of a kind or size not accepted.
    """
    load = load_pem_private_key if b"-----BEGIN" in data else load_der_private_key
    try:
        key = load(data, password)
    except TypeError:
        wrong = (
            "is encrypted: a password is needed" if password is None else "is not encrypted, but a password is given"
        )
        raise CryptoError(f"the private key {wrong}") from None
    except (ValueError, UnsupportedAlgorithm):
        # the library's words are not passed on: nothing about a secret key goes into a message
        raise CryptoError("the private key cannot be read (expected PEM or DER; is the password right?)") from None
    if not isinstance(key, RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise CryptoError("private keys are accepted where they are RSA, ECDSA or Ed25519")
    accepted_public_key(key.public_key())
    return key
