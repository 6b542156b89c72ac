"""Key derivation, key lengths and what PRFs refuse."""

from __future__ import annotations

import pytest

from ipsecha.crypto.key_derivation import (
    derive_child_keys,
    derive_ike_keys,
    derive_rekeyed_ike_keys,
    key_material_length,
    pack_record_keys,
    unpack_record_keys,
)
from ipsecha.crypto.prf import prf, prf_plus
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Encr, Group, Integ, Prf, Protocol
from ipsecha.model.proposals import ChildSuite, IkeSuite

NI, NR, SPI_I, SPI_R, SHARED = b"i" * 32, b"r" * 24, b"I" * 8, b"R" * 8, b"s" * 32

IKE_SUITES = [
    IkeSuite(Encr.AES_GCM_16, 128, 0, Prf.HMAC_SHA2_256, Group.CURVE25519),
    IkeSuite(Encr.AES_GCM_16, 256, 0, Prf.HMAC_SHA2_512, Group.CURVE25519),
    IkeSuite(Encr.CHACHA20_POLY1305, 0, 0, Prf.HMAC_SHA2_384, Group.ECP_256),
    IkeSuite(Encr.AES_CBC, 128, Integ.HMAC_SHA2_256_128, Prf.HMAC_SHA2_256, Group.MODP_2048),
    IkeSuite(Encr.AES_CBC, 256, Integ.HMAC_SHA2_512_256, Prf.HMAC_SHA2_384, Group.MODP_2048),
]


@pytest.mark.parametrize("suite", IKE_SUITES, ids=str)
def test_ike_keys_follow_section_2_14_step_by_step(suite: IkeSuite) -> None:
    """RFC 7296 section 2.14, with SKEYSEED and prf+ done apart; RFC 5282 section 7.1: SK_a is empty with an AEAD."""
    keys = derive_ike_keys(suite, SHARED, NI, NR, SPI_I, SPI_R)
    skeyseed = prf(suite.prf, NI + NR, SHARED)
    octets = prf_plus(suite.prf, skeyseed, NI + NR + SPI_I + SPI_R, sum(map(len, keys)))
    assert b"".join(keys) == octets
    assert len(keys.sk_ai) == len(keys.sk_ar) == {12: 32, 14: 64}.get(suite.integ, 0)
    salt = 0 if suite.integ else 4
    assert len(keys.sk_ei) == len(keys.sk_er) == (suite.key_bits or 256) // 8 + salt


@pytest.mark.parametrize("suite", IKE_SUITES, ids=str)
def test_record_keys_come_back_as_they_went(suite: IkeSuite) -> None:
    keys = derive_ike_keys(suite, SHARED, NI, NR, SPI_I, SPI_R)
    packed = pack_record_keys(keys)
    record = unpack_record_keys(suite, packed)
    assert tuple(record) == tuple(keys[:5])
    assert pack_record_keys(record) == packed
    for wrong in (packed[:-1], packed + b"\0", b""):
        with pytest.raises(CryptoError, match="do not fit"):
            unpack_record_keys(suite, wrong)


def test_keys_of_child_sas_are_cut_initiator_first() -> None:
    """RFC 7296 section 2.17: all keys of initiator to responder come first; with PFS g^ir goes before the nonces."""
    suite = ChildSuite(Protocol.ESP, Encr.AES_CBC, 128, Integ.HMAC_SHA2_256_128, 0, False)
    one, two = derive_child_keys(Prf.HMAC_SHA2_256, b"d" * 32, suite, NI, NR)
    assert one + two == prf_plus(Prf.HMAC_SHA2_256, b"d" * 32, NI + NR, 96)
    assert len(one) == len(two) == key_material_length(suite) == 16 + 32
    one, two = derive_child_keys(Prf.HMAC_SHA2_256, b"d" * 32, suite, NI, NR, SHARED)
    assert one + two == prf_plus(Prf.HMAC_SHA2_256, b"d" * 32, SHARED + NI + NR, 96)


@pytest.mark.parametrize(
    ("encr", "bits", "integ", "length"),
    [
        (Encr.AES_GCM_16, 128, 0, 20),
        (Encr.AES_GCM_16, 192, 0, 28),
        (Encr.AES_GCM_16, 256, 0, 36),
        (Encr.CHACHA20_POLY1305, 0, 0, 36),
        (Encr.AES_CBC, 192, Integ.HMAC_SHA2_384_192, 24 + 48),
        (Encr.AES_CBC, 256, Integ.HMAC_SHA2_512_256, 32 + 64),
        (Encr.NULL, 0, Integ.HMAC_SHA2_256_128, 32),
    ],
)
def test_key_material_length(encr: int, bits: int, integ: int, length: int) -> None:
    assert key_material_length(ChildSuite(Protocol.ESP, encr, bits, integ, 0, False)) == length


def test_key_material_of_ah_is_the_integrity_key() -> None:
    assert key_material_length(ChildSuite(Protocol.AH, 0, 0, Integ.HMAC_SHA2_256_128, 0, True)) == 32


@pytest.mark.parametrize(
    ("encr", "bits", "integ"),
    [
        (Encr.AES_GCM_16, 256, Integ.HMAC_SHA2_256_128),  # RFC 5282 section 8: an AEAD has no integrity besides
        (Encr.AES_CBC, 256, Integ.NONE),  # RFC 8221 section 4: encryption without integrity MUST NOT be
        (Encr.NULL, 0, Integ.NONE),
        (Encr.AES_CBC, 512, Integ.HMAC_SHA2_256_128),
        (Encr.CHACHA20_POLY1305, 256, Integ.NONE),
        (3, 0, Integ.HMAC_SHA2_256_128),
        (Encr.AES_CBC, 256, 2),
    ],
)
def test_algorithms_that_do_not_go_together_are_refused(encr: int, bits: int, integ: int) -> None:
    with pytest.raises(CryptoError):
        key_material_length(ChildSuite(Protocol.ESP, encr, bits, integ, 0, False))
    with pytest.raises(CryptoError):
        derive_ike_keys(IkeSuite(encr, bits, integ, 5, 31), SHARED, NI, NR, SPI_I, SPI_R)


def test_ike_sas_are_never_without_encryption() -> None:
    with pytest.raises(CryptoError, match="never without encryption"):
        derive_ike_keys(IkeSuite(Encr.NULL, 0, 12, 5, 31), SHARED, NI, NR, SPI_I, SPI_R)


def test_unknown_prfs_are_refused() -> None:
    suite = IkeSuite(Encr.AES_GCM_16, 256, 0, 2, 31)
    with pytest.raises(CryptoError, match="PRF 2"):
        derive_ike_keys(suite, SHARED, NI, NR, SPI_I, SPI_R)
    with pytest.raises(CryptoError, match="PRF 2"):
        derive_rekeyed_ike_keys(suite, b"d" * 20, IKE_SUITES[0], SHARED, NI, NR, SPI_I, SPI_R)
    with pytest.raises(CryptoError, match="PRF 2"):
        prf(2, b"", b"")
    with pytest.raises(CryptoError, match="PRF 2"):
        prf_plus(2, b"", b"", 1)


def test_prf_plus_ends_where_its_counter_ends() -> None:
    """RFC 7296 section 2.13: prf+ is not defined beyond 255 times the PRF's output."""
    assert prf_plus(Prf.HMAC_SHA2_256, b"k", b"s", 0) == b""
    assert len(prf_plus(Prf.HMAC_SHA2_256, b"k", b"s", 255 * 32)) == 255 * 32
    with pytest.raises(CryptoError, match="255 blocks"):
        prf_plus(Prf.HMAC_SHA2_256, b"k", b"s", 255 * 32 + 1)


def test_no_secret_in_repr() -> None:
    """Invariant I6."""
    keys = derive_ike_keys(IKE_SUITES[0], SHARED, NI, NR, SPI_I, SPI_R)
    record = unpack_record_keys(IKE_SUITES[0], pack_record_keys(keys))
    assert (repr(keys), repr(record)) == ("IkeKeys(...)", "RecordKeys(...)")
    assert str(keys) == "IkeKeys(...)"
