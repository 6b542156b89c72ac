"""Protection of the Encrypted payload (RFC 7296 section 3.14, RFC 5282) and of its fragments (RFC 7383).

A ``Protection`` is cheap to build and is built when a message is at hand, not kept: 100,000 idle IKE SAs hold no
cipher state.  ``aad`` is the message up to the end of the generic header of SK (or of the fields of SKF), with its
final length fields.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC

from ipsecha.crypto.key_lengths import ICV_LENGTH, SALT_LENGTH, ike_key_lengths
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Encr, Integ
from ipsecha.model.proposals import IkeSuite

AEAD_IV_LENGTH = 8
AEAD_ICV_LENGTH = 16
AES_BLOCK = 16

INTEGRITY_HASHES: dict[int, HashAlgorithm] = {
    Integ.HMAC_SHA2_256_128: SHA256(),
    Integ.HMAC_SHA2_384_192: SHA384(),
    Integ.HMAC_SHA2_512_256: SHA512(),
}

# the content of IKE padding is arbitrary; this is ESP's, so that one table serves both
PADDING = tuple(bytes(range(1, n + 1)) + bytes((n,)) for n in range(AES_BLOCK))


class Protection(Protocol):
    """One direction of an IKE SA's message protection."""

    @property
    def iv_length(self) -> int:
        """Octets of explicit IV: 8 with an AEAD, 16 with CBC."""

    @property
    def icv_length(self) -> int:
        """Octets of the integrity checksum value at the end."""

    @property
    def explicit_counter_iv(self) -> bool:
        """True: the IV must never repeat and a counter is right (AEAD). False: it must be unpredictable (CBC)."""

    def seal(self, aad: bytes, iv: bytes, plaintext: bytes) -> bytes:
        """IV | ciphertext | ICV for the inner payloads; padding and Pad Length are added inside."""

    def sealed_length(self, n_plain: int) -> int:
        """The length of what ``seal`` returns for ``n_plain`` octets of inner payloads."""

    def open(self, aad: bytes, body: bytes) -> bytes:
        """The inner payloads of IV | ciphertext | ICV without padding.

        Raises CryptoError where the checksum does not verify or the content is not padded as it must be.
        """


class AeadProtection:
    """AES-GCM and ChaCha20-Poly1305: nonce salt | IV, no padding, but the Pad Length octet (RFC 5282 section 3)."""

    __slots__ = ("_cipher", "_salt")

    iv_length = AEAD_IV_LENGTH
    icv_length = AEAD_ICV_LENGTH
    explicit_counter_iv = True

    def __init__(self, cipher: AESGCM | ChaCha20Poly1305, salt: bytes) -> None:
        self._cipher = cipher
        self._salt = salt

    def seal(self, aad: bytes, iv: bytes, plaintext: bytes) -> bytes:
        return iv + self._cipher.encrypt(self._salt + iv, plaintext + b"\0", aad)

    def sealed_length(self, n_plain: int) -> int:
        return AEAD_IV_LENGTH + n_plain + 1 + AEAD_ICV_LENGTH

    def open(self, aad: bytes, body: bytes) -> bytes:
        if len(body) < AEAD_IV_LENGTH + 1 + AEAD_ICV_LENGTH:
            raise CryptoError("the encrypted payload is too short")
        try:
            padded = self._cipher.decrypt(self._salt + body[:AEAD_IV_LENGTH], body[AEAD_IV_LENGTH:], aad)
        except InvalidTag:
            raise CryptoError("the integrity check of the encrypted payload failed") from None
        return _without_padding(padded)


class CbcProtection:
    """AES-CBC, then HMAC-SHA2 over everything from the IKE header to Pad Length (RFC 7296 section 3.14)."""

    __slots__ = ("_algorithm", "_hash", "_integrity_key", "icv_length")

    iv_length = AES_BLOCK
    explicit_counter_iv = False

    def __init__(self, encryption_key: bytes, integ: int, integrity_key: bytes) -> None:
        self._algorithm = AES(encryption_key)
        self._hash = INTEGRITY_HASHES[integ]
        self._integrity_key = integrity_key
        self.icv_length = ICV_LENGTH[integ]

    def seal(self, aad: bytes, iv: bytes, plaintext: bytes) -> bytes:
        encryptor = Cipher(self._algorithm, CBC(iv)).encryptor()
        body = iv + encryptor.update(plaintext + PADDING[-(len(plaintext) + 1) % AES_BLOCK])
        return body + self._icv(aad, body)

    def sealed_length(self, n_plain: int) -> int:
        return AES_BLOCK + n_plain + 1 + -(n_plain + 1) % AES_BLOCK + self.icv_length

    def open(self, aad: bytes, body: bytes) -> bytes:
        end = len(body) - self.icv_length
        if end < 2 * AES_BLOCK or end % AES_BLOCK:
            raise CryptoError("the encrypted payload is not a whole number of blocks")
        # integrity first: nothing may be learnt from how padding of a forged message looks
        if not compare_digest(self._icv(aad, body[:end]), body[end:]):
            raise CryptoError("the integrity check of the encrypted payload failed")
        decryptor = Cipher(self._algorithm, CBC(body[:AES_BLOCK])).decryptor()
        return _without_padding(decryptor.update(body[AES_BLOCK:end]))

    def _icv(self, aad: bytes, body: bytes) -> bytes:
        state = HMAC(self._integrity_key, self._hash)
        state.update(aad)
        state.update(body)
        return state.finalize()[: self.icv_length]


def ike_protection(suite: IkeSuite, sk_e: bytes, sk_a: bytes) -> Protection:
    """Protection of one direction under SK_ei and SK_ai, or SK_er and SK_ar.

    Raises CryptoError for algorithms that are not supported and keys that do not fit them.
    """
    encr = suite.encr
    if (len(sk_a), len(sk_e)) != ike_key_lengths(encr, suite.key_bits, suite.integ):
        raise CryptoError(f"the keys do not fit {suite}")
    if encr == Encr.AES_GCM_16:
        return AeadProtection(AESGCM(sk_e[:-SALT_LENGTH]), sk_e[-SALT_LENGTH:])
    if encr == Encr.CHACHA20_POLY1305:
        return AeadProtection(ChaCha20Poly1305(sk_e[:-SALT_LENGTH]), sk_e[-SALT_LENGTH:])
    return CbcProtection(sk_e, suite.integ, sk_a)


def _without_padding(padded: bytes) -> bytes:
    """Receivers accept any amount and content of padding (RFC 7296 section 3.14)."""
    end = len(padded) - 1 - padded[-1]
    if end < 0:
        raise CryptoError("the padding of the encrypted payload is longer than its content")
    return padded[:end]
