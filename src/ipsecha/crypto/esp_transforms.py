"""ESP's cryptography, one packet at a time (RFC 4303; RFC 4106, RFC 7634, RFC 3602, RFC 4868).

A transform belongs to one direction of one child SA.  Where the high half of an extended sequence number is
authenticated differs: AEADs have it in the middle of the AAD (RFC 4106 section 5), HMACs at the end of what they
authenticate (RFC 4303 section 2.2.1).
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hmac import HMAC

from ipsecha.crypto.key_derivation import key_material_length
from ipsecha.crypto.key_lengths import ICV_LENGTH, SALT_LENGTH, encryption_key_length
from ipsecha.crypto.protection import AEAD_ICV_LENGTH, AEAD_IV_LENGTH, AES_BLOCK, INTEGRITY_HASHES
from ipsecha.model import numbers
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Encr
from ipsecha.model.proposals import ChildSuite

__all__ = [
    "AeadTransform",
    "CbcTransform",
    "EspTransform",
    "NullTransform",
    "esp_transform",
    "key_material_length",
]

ESP_ALIGNMENT = 4


class EspTransform(Protocol):
    """What the data plane may ask of any transform.

    ``header`` is SPI | sequence number (8 octets); ``seq_high`` the high half with extended sequence numbers, else
    None; plaintext has its padding, Pad Length and Next Header and is a multiple of ``block`` octets.
    """

    @property
    def iv_length(self) -> int:
        """Octets of IV in each packet."""

    @property
    def icv_length(self) -> int:
        """Octets of integrity checksum value at the end of each packet."""

    @property
    def block(self) -> int:
        """What the length of the padded plaintext must be a multiple of."""

    @property
    def counter_iv(self) -> bool:
        """True: the IV must never repeat and a counter is right. False: it must be unpredictable, or is empty."""

    def seal(self, header: bytes, seq_high: int | None, iv: bytes, plaintext: bytes) -> bytes:
        """IV | ciphertext | ICV."""

    def open(self, header: bytes, seq_high: int | None, body: bytes) -> bytes:
        """The padded plaintext of IV | ciphertext | ICV; raises CryptoError where the ICV does not verify or the
        length is impossible."""


class AeadTransform:
    """AES-GCM with a 16-octet ICV and ChaCha20-Poly1305.

    ``cipher`` and ``salt`` are public: the batched data plane seals many packets with them in prepared buffers.
    """

    __slots__ = ("cipher", "salt")

    iv_length = AEAD_IV_LENGTH
    icv_length = AEAD_ICV_LENGTH
    block = ESP_ALIGNMENT
    counter_iv = True

    def __init__(self, cipher: AESGCM | ChaCha20Poly1305, salt: bytes) -> None:
        self.cipher = cipher
        self.salt = salt

    def seal(self, header: bytes, seq_high: int | None, iv: bytes, plaintext: bytes) -> bytes:
        aad = header if seq_high is None else header[:4] + seq_high.to_bytes(4, "big") + header[4:]
        return iv + self.cipher.encrypt(self.salt + iv, plaintext, aad)

    def open(self, header: bytes, seq_high: int | None, body: bytes) -> bytes:
        n = len(body) - (AEAD_IV_LENGTH + AEAD_ICV_LENGTH)
        if n < ESP_ALIGNMENT or n % ESP_ALIGNMENT:
            raise CryptoError("the ESP packet has an impossible length")
        aad = header if seq_high is None else header[:4] + seq_high.to_bytes(4, "big") + header[4:]
        try:
            return self.cipher.decrypt(self.salt + body[:AEAD_IV_LENGTH], body[AEAD_IV_LENGTH:], aad)
        except InvalidTag:
            raise CryptoError("the integrity check of the ESP packet failed") from None


class _Integrity:
    """HMAC-SHA2 over SPI .. Next Header and the high half of the sequence number, kept as a keyed state."""

    __slots__ = ("_keyed", "icv_length")

    def __init__(self, integ: int, key: bytes) -> None:
        self._keyed = HMAC(key, INTEGRITY_HASHES[integ])
        self.icv_length = ICV_LENGTH[integ]

    def _icv(self, header: bytes, body: bytes, seq_high: int | None) -> bytes:
        state = self._keyed.copy()
        state.update(header)
        state.update(body)
        if seq_high is not None:
            state.update(seq_high.to_bytes(4, "big"))
        return state.finalize()[: self.icv_length]

    def _verified(self, header: bytes, seq_high: int | None, body: bytes) -> bytes:
        end = len(body) - self.icv_length
        if not compare_digest(self._icv(header, body[:end], seq_high), body[end:]):
            raise CryptoError("the integrity check of the ESP packet failed")
        return body[:end]


class CbcTransform(_Integrity):
    """AES-CBC with HMAC-SHA2."""

    __slots__ = ("_algorithm",)

    iv_length = AES_BLOCK
    block = AES_BLOCK
    counter_iv = False

    def __init__(self, encryption_key: bytes, integ: int, integrity_key: bytes) -> None:
        super().__init__(integ, integrity_key)
        self._algorithm = AES(encryption_key)

    def seal(self, header: bytes, seq_high: int | None, iv: bytes, plaintext: bytes) -> bytes:
        encryptor = Cipher(self._algorithm, CBC(iv)).encryptor()
        body = iv + encryptor.update(plaintext) + encryptor.finalize()
        return body + self._icv(header, body, seq_high)

    def open(self, header: bytes, seq_high: int | None, body: bytes) -> bytes:
        n = len(body) - AES_BLOCK - self.icv_length
        if n < AES_BLOCK or n % AES_BLOCK:
            raise CryptoError("the ESP packet is not a whole number of blocks")
        authentic = self._verified(header, seq_high, body)
        return Cipher(self._algorithm, CBC(authentic[:AES_BLOCK])).decryptor().update(authentic[AES_BLOCK:])


class NullTransform(_Integrity):
    """Integrity without confidentiality: NULL encryption (RFC 2410) with HMAC-SHA2."""

    __slots__ = ()

    iv_length = 0
    block = ESP_ALIGNMENT
    counter_iv = False

    def seal(self, header: bytes, seq_high: int | None, iv: bytes, plaintext: bytes) -> bytes:
        return plaintext + self._icv(header, plaintext, seq_high)

    def open(self, header: bytes, seq_high: int | None, body: bytes) -> bytes:
        n = len(body) - self.icv_length
        if n < ESP_ALIGNMENT or n % ESP_ALIGNMENT:
            raise CryptoError("the ESP packet has an impossible length")
        return self._verified(header, seq_high, body)


def esp_transform(suite: ChildSuite, key_material: bytes) -> EspTransform:
    """The transform of one direction from its part of KEYMAT: encryption key, salt included, then integrity key.

    Raises CryptoError for algorithms that are not supported and keying material that does not fit them.
    """
    if suite.protocol != numbers.Protocol.ESP:
        raise CryptoError(f"security protocol {suite.protocol} is not supported: only ESP is")
    if len(key_material) != key_material_length(suite):
        raise CryptoError(f"{len(key_material)} octets of keying material do not fit {suite}")
    cut = encryption_key_length(suite.encr, suite.key_bits)
    key, integrity_key = key_material[:cut], key_material[cut:]
    if suite.encr == Encr.AES_GCM_16:
        return AeadTransform(AESGCM(key[:-SALT_LENGTH]), key[-SALT_LENGTH:])
    if suite.encr == Encr.CHACHA20_POLY1305:
        return AeadTransform(ChaCha20Poly1305(key[:-SALT_LENGTH]), key[-SALT_LENGTH:])
    if suite.encr == Encr.AES_CBC:
        return CbcTransform(key, suite.integ, integrity_key)
    return NullTransform(suite.integ, integrity_key)
