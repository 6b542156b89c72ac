"""AH's cryptography, one packet at a time (RFC 4302; RFC 4868, RFC 4543 section 4).

A transform belongs to one direction of one child SA.  It authenticates the outer IP header with its mutable fields
zeroed, the AH header with its ICV zeroed, what follows, and the high half of an extended sequence number behind all
(RFC 4302 section 3.3.3).  With AES-GMAC the ICV field holds an IV in front of the tag.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC

from ipsecha.crypto.key_lengths import GMAC_KEY_LENGTH, ICV_LENGTH, SALT_LENGTH, ah_key_length
from ipsecha.crypto.protection import AEAD_ICV_LENGTH, AEAD_IV_LENGTH, INTEGRITY_HASHES
from ipsecha.model import numbers
from ipsecha.model.errors import CryptoError
from ipsecha.model.proposals import ChildSuite

__all__ = ["AhTransform", "GmacTransform", "HmacTransform", "ah_transform"]


class AhTransform(Protocol):
    """What the data plane may ask of any transform.

    ``before`` is everything in front of the ICV field (outer header with mutable fields zeroed, first 12 octets of AH),
    ``after`` what follows the field's ``icv_length`` octets: explicit padding and the payload.  ``seq_high`` is the
    high half with extended sequence numbers, else None.
    """

    @property
    def icv_length(self) -> int:
        """Octets of the ICV field without padding, an IV included."""

    @property
    def counter_iv(self) -> bool:
        """True: ``sign`` wants 8 octets of IV that never repeat; else none."""

    def sign(self, before: bytes, after: bytes, seq_high: int | None, iv: bytes) -> bytes:
        """The ICV field."""

    def verify(self, before: bytes, icv: bytes, after: bytes, seq_high: int | None) -> None:
        """Raises CryptoError where ``icv`` (``icv_length`` octets) is not that of the packet."""


class HmacTransform:
    """HMAC-SHA2, kept as a keyed state."""

    __slots__ = ("_keyed", "_zeros", "icv_length")

    counter_iv = False

    def __init__(self, integ: int, key: bytes) -> None:
        self._keyed = HMAC(key, INTEGRITY_HASHES[integ])
        self.icv_length = ICV_LENGTH[integ]
        self._zeros = bytes(self.icv_length)

    def sign(self, before: bytes, after: bytes, seq_high: int | None, iv: bytes) -> bytes:
        state = self._keyed.copy()
        state.update(before + self._zeros)
        state.update(after)
        if seq_high is not None:
            state.update(seq_high.to_bytes(4, "big"))
        return state.finalize()[: self.icv_length]

    def verify(self, before: bytes, icv: bytes, after: bytes, seq_high: int | None) -> None:
        if not compare_digest(self.sign(before, after, seq_high, b""), icv):
            raise CryptoError("the integrity check of the AH packet failed")


class GmacTransform:
    """AES-GMAC: GCM that encrypts nothing (RFC 4543 section 4); both parts of the ICV field count as zero."""

    __slots__ = ("_cipher", "_salt")

    icv_length = AEAD_IV_LENGTH + AEAD_ICV_LENGTH
    counter_iv = True

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key[:-SALT_LENGTH])
        self._salt = key[-SALT_LENGTH:]

    def sign(self, before: bytes, after: bytes, seq_high: int | None, iv: bytes) -> bytes:
        return iv + self._cipher.encrypt(self._salt + iv, b"", self._authenticated(before, after, seq_high))

    def verify(self, before: bytes, icv: bytes, after: bytes, seq_high: int | None) -> None:
        nonce = self._salt + icv[:AEAD_IV_LENGTH]
        try:
            self._cipher.decrypt(nonce, icv[AEAD_IV_LENGTH:], self._authenticated(before, after, seq_high))
        except InvalidTag:
            raise CryptoError("the integrity check of the AH packet failed") from None

    @classmethod
    def _authenticated(cls, before: bytes, after: bytes, seq_high: int | None) -> bytes:
        high = b"" if seq_high is None else seq_high.to_bytes(4, "big")
        return before + bytes(cls.icv_length) + after + high


def ah_transform(suite: ChildSuite, key: bytes) -> AhTransform:
    """The transform of one direction from its part of KEYMAT.

    Raises CryptoError for algorithms that are not supported and keying material that does not fit them.
    """
    if suite.protocol != numbers.Protocol.AH:
        raise CryptoError(f"security protocol {suite.protocol} is not AH")
    if len(key) != ah_key_length(suite.integ):
        raise CryptoError(f"{len(key)} octets of keying material do not fit {suite}")
    return GmacTransform(key) if suite.integ in GMAC_KEY_LENGTH else HmacTransform(suite.integ, key)
