"""How many octets of keying material each algorithm takes (RFC 7296 section 2.14, RFC 5282 section 7.1)."""

from __future__ import annotations

from functools import lru_cache

from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Encr, Integ

SALT_LENGTH = 4

ENCRYPTION_KEY_LENGTH: dict[tuple[int, int], int] = {
    (Encr.NULL, 0): 0,
    (Encr.AES_CBC, 128): 16,
    (Encr.AES_CBC, 192): 24,
    (Encr.AES_CBC, 256): 32,
    (Encr.AES_GCM_16, 128): 16 + SALT_LENGTH,
    (Encr.AES_GCM_16, 192): 24 + SALT_LENGTH,
    (Encr.AES_GCM_16, 256): 32 + SALT_LENGTH,
    (Encr.CHACHA20_POLY1305, 0): 32 + SALT_LENGTH,
}
"""Octets by (transform ID, Key Length attribute in bits or 0); the salt of an AEAD is part of its key."""

INTEGRITY_KEY_LENGTH: dict[int, int] = {
    Integ.NONE: 0,
    Integ.HMAC_SHA2_256_128: 32,
    Integ.HMAC_SHA2_384_192: 48,
    Integ.HMAC_SHA2_512_256: 64,
}

GMAC_KEY_LENGTH: dict[int, int] = {
    Integ.AES_128_GMAC: 16 + SALT_LENGTH,
    Integ.AES_192_GMAC: 24 + SALT_LENGTH,
    Integ.AES_256_GMAC: 32 + SALT_LENGTH,
}
"""AH only; the salt is part of the key (RFC 4543 sections 5.3 and 5.4)."""

ICV_LENGTH: dict[int, int] = {
    Integ.HMAC_SHA2_256_128: 16,
    Integ.HMAC_SHA2_384_192: 24,
    Integ.HMAC_SHA2_512_256: 32,
}

AEAD = frozenset((Encr.AES_GCM_16, Encr.CHACHA20_POLY1305))
"""Encryption algorithms with integrity of their own."""


def encryption_key_length(encr: int, key_bits: int) -> int:
    """Octets of SK_e or of an ESP encryption key, salt included; raises CryptoError for what is not supported."""
    length = ENCRYPTION_KEY_LENGTH.get((encr, key_bits))
    if length is None:
        raise CryptoError(f"encryption algorithm {encr} with {key_bits} bits is not supported")
    return length


def integrity_key_length(encr: int, integ: int) -> int:
    """Octets of SK_a or of an ESP integrity key; 0 with an AEAD.

    Raises CryptoError for an unknown algorithm, for an AEAD with an integrity algorithm besides, and for encryption
    without either (RFC 8221 section 4).
    """
    length = INTEGRITY_KEY_LENGTH.get(integ)
    if length is None:
        raise CryptoError(f"integrity algorithm {integ} is not supported")
    if (encr in AEAD) is bool(length):
        raise CryptoError(f"encryption algorithm {encr} does not go with integrity algorithm {integ}")
    return length


def ah_key_length(integ: int) -> int:
    """Octets of an AH key; raises CryptoError for what is not supported, no integrity among it."""
    length = GMAC_KEY_LENGTH.get(integ) or INTEGRITY_KEY_LENGTH.get(integ)
    if not length:
        raise CryptoError(f"integrity algorithm {integ} is not supported for AH")
    return length


@lru_cache(maxsize=64)
def ike_key_lengths(encr: int, key_bits: int, integ: int) -> tuple[int, int]:
    """Octets of SK_a and SK_e; raises CryptoError for what is not supported, and for no encryption at all."""
    if encr == Encr.NULL:
        raise CryptoError("an IKE SA is never without encryption")
    sk_e = encryption_key_length(encr, key_bits)
    return integrity_key_length(encr, integ), sk_e
