"""Keys of IKE SAs and child SAs (RFC 7296 sections 2.14, 2.17, 2.18).

With HMAC PRFs, SKEYSEED and prf+ together are one HKDF (RFC 5869): salt Ni | Nr, info Ni | Nr | SPIi | SPIr.  One
call into the library derives all seven keys.
"""

from __future__ import annotations

from typing import NamedTuple

from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ipsecha.crypto.key_lengths import (
    ah_key_length,
    encryption_key_length,
    ike_key_lengths,
    integrity_key_length,
)
from ipsecha.crypto.prf import PRF_KEY_LENGTH, prf, prf_hash, prf_plus
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Protocol
from ipsecha.model.proposals import ChildSuite, IkeSuite


class IkeKeys(NamedTuple):
    """The SK_* of an IKE SA: ``i`` keys protect what the original initiator sends; ``sk_a*`` are empty with an AEAD."""

    sk_d: bytes
    sk_ai: bytes
    sk_ar: bytes
    sk_ei: bytes
    sk_er: bytes
    sk_pi: bytes
    sk_pr: bytes

    def __repr__(self) -> str:
        return "IkeKeys(...)"


class RecordKeys(NamedTuple):
    """The keys that an established IKE SA still needs (SK_p ends with IKE_AUTH)."""

    sk_d: bytes
    sk_ai: bytes
    sk_ar: bytes
    sk_ei: bytes
    sk_er: bytes

    def __repr__(self) -> str:
        return "RecordKeys(...)"


def derive_ike_keys(suite: IkeSuite, shared: bytes, ni: bytes, nr: bytes, spi_i: bytes, spi_r: bytes) -> IkeKeys:
    """The keys of a first IKE SA from the key exchange's ``shared`` secret and the nonces (section 2.14)."""
    a, e, p = _ike_lengths(suite)
    nonces = ni + nr
    hkdf = HKDF(prf_hash(suite.prf), 3 * p + 2 * (a + e), nonces, nonces + spi_i + spi_r)
    return _cut_ike_keys(hkdf.derive(shared), a, e, p)


def derive_rekeyed_ike_keys(
    old_suite: IkeSuite,
    old_sk_d: bytes,
    suite: IkeSuite,
    shared: bytes,
    ni: bytes,
    nr: bytes,
    spi_i: bytes,
    spi_r: bytes,
) -> IkeKeys:
    """The keys of an IKE SA that replaces another (section 2.18): SKEYSEED by the old SA's PRF, the rest by the new
    one's; nonces and SPIs are those of the CREATE_CHILD_SA exchange."""
    a, e, p = _ike_lengths(suite)
    seed = prf(old_suite.prf, old_sk_d, shared + ni + nr)
    return _cut_ike_keys(prf_plus(suite.prf, seed, ni + nr + spi_i + spi_r, 3 * p + 2 * (a + e)), a, e, p)


def derive_child_keys(
    prf_id: int, sk_d: bytes, suite: ChildSuite, ni: bytes, nr: bytes, shared: bytes = b""
) -> tuple[bytes, bytes]:
    """KEYMAT of a child SA (section 2.17), each part encryption key | integrity key: (initiator to responder,
    responder to initiator).  "Initiator" is the one of the exchange that makes the child SA."""
    length = key_material_length(suite)
    keymat = prf_plus(prf_id, sk_d, shared + ni + nr, 2 * length)
    return keymat[:length], keymat[length:]


def key_material_length(suite: ChildSuite) -> int:
    """Octets of keying material for one direction of a child SA; raises CryptoError for what is not supported."""
    if suite.protocol == Protocol.AH:
        return ah_key_length(suite.integ)
    return encryption_key_length(suite.encr, suite.key_bits) + integrity_key_length(suite.encr, suite.integ)


def pack_record_keys(keys: IkeKeys | RecordKeys) -> bytes:
    """SK_d | SK_ai | SK_ar | SK_ei | SK_er: the form in which an IkeSa keeps them."""
    return b"".join(keys[:5])


def unpack_record_keys(suite: IkeSuite, packed: bytes) -> RecordKeys:
    """The inverse of pack_record_keys; raises CryptoError where the length does not fit the suite."""
    a, e, p = _ike_lengths(suite)
    if len(packed) != p + 2 * (a + e):
        raise CryptoError(f"{len(packed)} octets of keys do not fit {suite}")
    ar, ei, er = p + a, p + 2 * a, p + 2 * a + e
    return RecordKeys(packed[:p], packed[p:ar], packed[ar:ei], packed[ei:er], packed[er:])


def pack_ike_keys(keys: IkeKeys) -> bytes:
    """All SK_*: the form in which a handshake that is not finished travels to the backup."""
    return b"".join(keys)


def unpack_ike_keys(suite: IkeSuite, packed: bytes) -> IkeKeys:
    """The inverse of pack_ike_keys; raises CryptoError where the length does not fit the suite."""
    a, e, p = _ike_lengths(suite)
    if len(packed) != 3 * p + 2 * (a + e):
        raise CryptoError(f"{len(packed)} octets of keys do not fit {suite}")
    return _cut_ike_keys(packed, a, e, p)


def _ike_lengths(suite: IkeSuite) -> tuple[int, int, int]:
    """Octets of each SK_a, SK_e and of SK_d and each SK_p."""
    p = PRF_KEY_LENGTH.get(suite.prf)
    if p is None:
        raise CryptoError(f"PRF {suite.prf} is not supported")
    return *ike_key_lengths(suite.encr, suite.key_bits, suite.integ), p


def _cut_ike_keys(octets: bytes, a: int, e: int, p: int) -> IkeKeys:
    ar, ei = p + a, p + 2 * a
    er, pi = ei + e, ei + 2 * e
    pr = pi + p
    return IkeKeys(octets[:p], octets[p:ar], octets[ar:ei], octets[ei:er], octets[er:pi], octets[pi:pr], octets[pr:])
