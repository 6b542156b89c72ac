"""The AUTH payload's content (RFC 7296 section 2.15): shared keys and signatures (RFC 4754, RFC 7427, RFC 8420).

Signatures are never made or accepted with SHA-1 (RFC 8247 section 3.1).  So RSA with a peer that does not know
RFC 7427 ends in a clear refusal: its method 1 stands for SHA-1 there.  ECDSA has methods 9 to 11 for such peers.
"""

from __future__ import annotations

from hmac import compare_digest

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import HashAlgorithm as Hash
from cryptography.hazmat.primitives.hmac import HMAC

from ipsecha.crypto.keys import SigningKey, VerifyingKey, accepted_public_key
from ipsecha.crypto.prf import prf, prf_hash
from ipsecha.crypto.signature_schemes import (
    HASHES,
    IDENTIFIERS,
    SUPPORTED_HASH_ALGORITHMS,
    Padding,
    Scheme,
    parse_identifier,
)
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import AuthMethod, HashAlgorithm

__all__ = [
    "SUPPORTED_HASH_ALGORITHMS",
    "PreparedPsk",
    "psk_auth",
    "sign",
    "signed_octets",
    "verify",
]

_KEY_PAD = b"Key Pad for IKEv2"

# by size of the curve: method and hash without RFC 7427, and the order of preference of hashes with it
_CURVE_METHODS: dict[str, tuple[int, int, int]] = {
    "secp256r1": (AuthMethod.ECDSA_256, HashAlgorithm.SHA2_256, 32),
    "secp384r1": (AuthMethod.ECDSA_384, HashAlgorithm.SHA2_384, 48),
    "secp521r1": (AuthMethod.ECDSA_521, HashAlgorithm.SHA2_512, 66),
}
_HASHES_BY_STRENGTH = (HashAlgorithm.SHA2_256, HashAlgorithm.SHA2_384, HashAlgorithm.SHA2_512)


def signed_octets(real_message: bytes, peer_nonce: bytes, prf_id: int, sk_p: bytes, id_body: bytes) -> bytes:
    """InitiatorSignedOctets or ResponderSignedOctets.

    ``real_message``: the signer's IKE_SA_INIT message from SPIi on (no non-ESP marker); ``peer_nonce``: of the other
    side; ``sk_p``: the signer's SK_pi or SK_pr; ``id_body``: the signer's ID payload behind its generic header.
    """
    return real_message + peer_nonce + prf(prf_id, sk_p, id_body)


class PreparedPsk:
    """A shared secret of any length, whose ``prf(secret, "Key Pad for IKEv2")`` is kept as keyed state per PRF."""

    __slots__ = ("_keyed", "_secret")

    def __init__(self, secret: bytes) -> None:
        """Raises CryptoError for an empty secret."""
        if not secret:
            raise CryptoError("the shared secret is empty")
        self._secret = secret
        self._keyed: dict[int, HMAC] = {}

    def auth(self, prf_id: int, octets: bytes) -> bytes:
        """Authentication data of method 2 over the signed octets."""
        keyed = self._keyed.get(prf_id)
        if keyed is None:
            keyed = self._keyed[prf_id] = HMAC(prf(prf_id, self._secret, _KEY_PAD), prf_hash(prf_id))
        state = keyed.copy()
        state.update(octets)
        return state.finalize()

    def verify(self, prf_id: int, octets: bytes, auth_data: bytes) -> None:
        """Raises CryptoError where ``auth_data`` was made with another secret or over other octets."""
        if not compare_digest(self.auth(prf_id, octets), auth_data):
            raise CryptoError("the shared secret is not the peer's: its authentication data does not verify")

    def __repr__(self) -> str:
        return "PreparedPsk(...)"


def psk_auth(prf_id: int, secret: bytes, octets: bytes) -> bytes:
    """Authentication data of method 2; PreparedPsk does the same for a secret that is used more than once."""
    return prf(prf_id, prf(prf_id, secret, _KEY_PAD), octets)


def sign(key: SigningKey, octets: bytes, peer_hashes: tuple[int, ...] | None) -> tuple[int, bytes]:
    """AUTH method and authentication data over the signed octets.

    ``peer_hashes``: what the peer listed in SIGNATURE_HASH_ALGORITHMS, None where it sent none.
    Raises CryptoError where the peer leaves no way to sign that RFC 8247 allows.
    """
    if peer_hashes is None:
        return _sign_without_rfc7427(key, octets)
    scheme = _choose_scheme(key, peer_hashes)
    identifier = IDENTIFIERS[scheme]
    if isinstance(key, RSAPrivateKey):
        signature = key.sign(octets, PKCS1v15(), HASHES[scheme.hash_id])
    elif isinstance(key, Ed25519PrivateKey):
        signature = key.sign(octets)
    else:
        signature = key.sign(octets, _ecdsa(HASHES[scheme.hash_id]))
    return AuthMethod.DIGITAL_SIGNATURE, bytes((len(identifier),)) + identifier + signature


def verify(key: VerifyingKey, method: int, auth_data: bytes, octets: bytes) -> None:
    """Checks a peer's authentication data against its public key; raises CryptoError with the reason."""
    accepted_public_key(key)
    try:
        if method == AuthMethod.DIGITAL_SIGNATURE:
            _verify_rfc7427(key, auth_data, octets)
        elif method == AuthMethod.RSA and isinstance(key, RSAPublicKey):
            _verify_rsa_method(key, auth_data, octets)
        elif isinstance(key, ec.EllipticCurvePublicKey) and method == _CURVE_METHODS[key.curve.name][0]:
            _verify_ecdsa_method(key, auth_data, octets)
        else:
            raise CryptoError(f"authentication method {method} does not go with the {_kind(key)} key of the peer")
    except InvalidSignature:
        raise CryptoError("the peer's signature does not verify with its certificate") from None


def _sign_without_rfc7427(key: SigningKey, octets: bytes) -> tuple[int, bytes]:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        method, hash_id, length = _CURVE_METHODS[key.curve.name]
        r, s = decode_dss_signature(key.sign(octets, _ecdsa(HASHES[hash_id])))
        return method, r.to_bytes(length, "big") + s.to_bytes(length, "big")  # RFC 4754 section 7: no DER here
    if isinstance(key, RSAPrivateKey):
        raise CryptoError(
            "the peer does not support RFC 7427 signatures, and RSA without them means SHA-1, which RFC 8247 forbids"
        )
    raise CryptoError("the peer does not support RFC 7427 signatures, which an Ed25519 key needs")


def _choose_scheme(key: SigningKey, peer_hashes: tuple[int, ...]) -> Scheme:
    """The scheme for our key with a hash that the peer listed (RFC 7427 section 4): the hash that fits the key's
    strength, then stronger, then weaker ones."""
    if isinstance(key, Ed25519PrivateKey):
        if HashAlgorithm.IDENTITY in peer_hashes:
            return Scheme(Padding.ED25519, HashAlgorithm.IDENTITY)
        raise CryptoError('the peer does not list the hash "Identity", which an Ed25519 key needs (RFC 8420)')
    if isinstance(key, RSAPrivateKey):
        # not PSS: every peer verifies PKCS #1 v1.5, strongSwan signs with it by default, and both are safe here
        padding, first = Padding.RSA_PKCS1, HashAlgorithm.SHA2_256
    else:
        padding, first = Padding.ECDSA, HashAlgorithm(_CURVE_METHODS[key.curve.name][1])
    at = _HASHES_BY_STRENGTH.index(first)
    for hash_id in (*_HASHES_BY_STRENGTH[at:], *reversed(_HASHES_BY_STRENGTH[:at])):
        if hash_id in peer_hashes:
            return Scheme(padding, hash_id)
    raise CryptoError("the peer lists no SHA-2 hash for signatures, and RFC 8247 forbids SHA-1")


def _verify_rfc7427(key: VerifyingKey, auth_data: bytes, octets: bytes) -> None:
    cut = 1 + auth_data[0] if auth_data else 1
    if cut >= len(auth_data):
        raise CryptoError("the authentication data is truncated")
    scheme, signature = parse_identifier(auth_data[1:cut]), auth_data[cut:]
    if isinstance(key, RSAPublicKey) and scheme.padding in (Padding.RSA_PKCS1, Padding.RSA_PSS):
        key.verify(signature, octets, _rsa_padding(scheme), HASHES[scheme.hash_id])
    elif isinstance(key, ec.EllipticCurvePublicKey) and scheme.padding is Padding.ECDSA:
        key.verify(signature, octets, ec.ECDSA(HASHES[scheme.hash_id]))
    elif isinstance(key, Ed25519PublicKey) and scheme.padding is Padding.ED25519:
        key.verify(signature, octets)
    else:
        raise CryptoError(f"a signature by {scheme.padding.value} does not go with the {_kind(key)} key of the peer")


def _verify_rsa_method(key: RSAPublicKey, signature: bytes, octets: bytes) -> None:
    """Method 1 does not say which hash; peers that avoid SHA-1 use one of the SHA-2 family."""
    for algorithm in HASHES.values():
        try:
            return key.verify(signature, octets, PKCS1v15(), algorithm)
        except InvalidSignature:
            continue
    raise CryptoError("the peer's RSA signature does not verify with SHA-2 (SHA-1 is forbidden by RFC 8247)")


def _verify_ecdsa_method(key: ec.EllipticCurvePublicKey, signature: bytes, octets: bytes) -> None:
    _, hash_id, length = _CURVE_METHODS[key.curve.name]
    if len(signature) != 2 * length:
        raise InvalidSignature
    r, s = int.from_bytes(signature[:length], "big"), int.from_bytes(signature[length:], "big")
    key.verify(encode_dss_signature(r, s), octets, ec.ECDSA(HASHES[hash_id]))


def _rsa_padding(scheme: Scheme) -> AsymmetricPadding:
    if scheme.padding is Padding.RSA_PKCS1:
        return PKCS1v15()
    return PSS(MGF1(HASHES[scheme.hash_id]), scheme.salt_length)


def _ecdsa(algorithm: Hash) -> ec.ECDSA:
    """RFC 6979 where the library has it: no nonce to go wrong, and one key signs one message in one way."""
    try:
        return ec.ECDSA(algorithm, deterministic_signing=True)
    except UnsupportedAlgorithm:
        return ec.ECDSA(algorithm)


def _kind(key: VerifyingKey) -> str:
    if isinstance(key, RSAPublicKey):
        return "RSA"
    return "Ed25519" if isinstance(key, Ed25519PublicKey) else f"ECDSA {key.curve.name}"
