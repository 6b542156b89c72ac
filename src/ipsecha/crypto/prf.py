"""Pseudo-random functions: HMAC-SHA2 and prf+ (RFC 7296 section 2.13, RFC 4868)."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Prf

PRF_KEY_LENGTH: dict[int, int] = {Prf.HMAC_SHA2_256: 32, Prf.HMAC_SHA2_384: 48, Prf.HMAC_SHA2_512: 64}
"""Octets of output and preferred key, by PRF transform ID."""

PRF_HASHES: dict[int, HashAlgorithm] = {
    Prf.HMAC_SHA2_256: SHA256(),
    Prf.HMAC_SHA2_384: SHA384(),
    Prf.HMAC_SHA2_512: SHA512(),
}


def prf_hash(prf_id: int) -> HashAlgorithm:
    """The hash below the HMAC of a PRF; raises CryptoError where the PRF is not supported."""
    algorithm = PRF_HASHES.get(prf_id)
    if algorithm is None:
        raise CryptoError(f"PRF {prf_id} is not supported")
    return algorithm


def prf(prf_id: int, key: bytes, data: bytes) -> bytes:
    """``prf(key, data)``; a key of any length is taken as it is (HMAC hashes long ones)."""
    state = HMAC(key, prf_hash(prf_id))
    state.update(data)
    return state.finalize()


def prf_plus(prf_id: int, key: bytes, seed: bytes, length: int) -> bytes:
    """``length`` octets of ``prf+(key, seed)``: for HMAC PRFs this is HKDF-Expand (RFC 5869 section 2.3).

    Raises CryptoError beyond 255 blocks, where the one-octet counter ends.
    """
    algorithm = prf_hash(prf_id)
    if length > 255 * algorithm.digest_size:
        raise CryptoError(f"prf+ ends at 255 blocks: {length} octets are too many")
    return HKDFExpand(algorithm, length, seed).derive(key) if length else b""
