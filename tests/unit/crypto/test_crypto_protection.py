"""Protection of IKE messages and ESP packets: what comes back, what is refused, and the lengths told beforehand."""

from __future__ import annotations

import hmac

import pytest

from ipsecha.crypto.esp_transforms import esp_transform, key_material_length
from ipsecha.crypto.key_lengths import encryption_key_length, integrity_key_length
from ipsecha.crypto.protection import Protection, ike_protection
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Encr, Integ, Protocol
from ipsecha.model.proposals import ChildSuite, IkeSuite

ALGORITHMS = [
    (Encr.AES_GCM_16, 128, Integ.NONE),
    (Encr.AES_GCM_16, 192, Integ.NONE),
    (Encr.AES_GCM_16, 256, Integ.NONE),
    (Encr.CHACHA20_POLY1305, 0, Integ.NONE),
    (Encr.AES_CBC, 128, Integ.HMAC_SHA2_256_128),
    (Encr.AES_CBC, 192, Integ.HMAC_SHA2_384_192),
    (Encr.AES_CBC, 256, Integ.HMAC_SHA2_512_256),
]
IKE_SUITES = [IkeSuite(encr, bits, integ, 5, 31) for encr, bits, integ in ALGORITHMS]
ESP_SUITES = [
    ChildSuite(Protocol.ESP, encr, bits, integ, 0, False)
    for encr, bits, integ in [*ALGORITHMS, (Encr.NULL, 0, Integ.HMAC_SHA2_256_128)]
]
AAD = bytes(range(32))
HEADER = b"\x01\x02\x03\x04\x00\x00\x00\x07"


def protection_of(suite: IkeSuite, octet: int = 1) -> Protection:
    sk_e = bytes((octet,)) * encryption_key_length(suite.encr, suite.key_bits)
    return ike_protection(suite, sk_e, bytes((octet,)) * integrity_key_length(suite.encr, suite.integ))


@pytest.mark.parametrize("suite", IKE_SUITES, ids=str)
def test_messages_come_back_and_have_the_length_that_was_told(suite: IkeSuite) -> None:
    protection = protection_of(suite)
    iv = bytes(range(protection.iv_length))
    assert protection.explicit_counter_iv is (protection.iv_length == 8)
    for n in (0, 1, 14, 15, 16, 17, 31, 300):
        plaintext = b"p" * n
        body = protection.seal(AAD, iv, plaintext)
        assert body.startswith(iv)
        assert len(body) == protection.sealed_length(n)
        assert protection.open(AAD, body) == plaintext


@pytest.mark.parametrize("suite", IKE_SUITES, ids=str)
def test_messages_that_were_touched_are_refused(suite: IkeSuite) -> None:
    """RFC 7296 section 3.14: the ICV covers everything from the header to Pad Length."""
    protection = protection_of(suite)
    body = protection.seal(AAD, bytes(protection.iv_length), b"inner payloads")
    for at in range(len(body)):
        with pytest.raises(CryptoError, match="integrity"):
            protection.open(AAD, body[:at] + bytes((body[at] ^ 0x40,)) + body[at + 1 :])
    with pytest.raises(CryptoError, match="integrity"):
        protection.open(AAD[:-1] + b"!", body)
    with pytest.raises(CryptoError, match="integrity"):
        protection_of(suite, octet=2).open(AAD, body)
    for n in range(len(body)):
        with pytest.raises(CryptoError):
            protection.open(AAD, body[:n])


@pytest.mark.parametrize("suite", IKE_SUITES, ids=str)
def test_any_padding_is_accepted_but_not_more_than_there_is(suite: IkeSuite) -> None:
    """RFC 7296 section 3.14: the recipient must accept any length that results in proper alignment; the content of
    the padding is free.  What peers may send is sealed here as an ESP transform does: without padding of its own."""
    child = ChildSuite(Protocol.ESP, suite.encr, suite.key_bits, suite.integ, 0, False)
    key = b"\1" * key_material_length(child)
    raw = esp_transform(child, key)
    protection = protection_of(suite)
    iv = bytes(raw.iv_length)
    inner = b"P" * 12 + b"\xaa" * 19 + bytes((19,))
    assert protection.open(HEADER, raw.seal(HEADER, None, iv, inner)) == b"P" * 12
    assert protection.open(HEADER, raw.seal(HEADER, None, iv, b"\xaa" * 31 + bytes((31,)))) == b""
    with pytest.raises(CryptoError, match="padding"):
        protection.open(HEADER, raw.seal(HEADER, None, iv, b"\xaa" * 31 + bytes((32,))))


def test_cbc_that_is_not_a_whole_number_of_blocks_is_refused() -> None:
    protection = protection_of(IKE_SUITES[4])
    for n in (16, 17, 31, 33, 47):
        with pytest.raises(CryptoError, match="blocks"):
            protection.open(AAD, bytes(n) + bytes(protection.icv_length))


def test_keys_must_fit_the_suite() -> None:
    gcm, cbc = IKE_SUITES[2], IKE_SUITES[4]
    for suite, sk_e, sk_a in (
        (gcm, b"k" * 32, b""),
        (gcm, b"k" * 36, b"a"),
        (cbc, b"k" * 32, b"a" * 32),
        (cbc, b"k" * 16, b""),
    ):
        with pytest.raises(CryptoError, match="do not fit"):
            ike_protection(suite, sk_e, sk_a)
    with pytest.raises(CryptoError, match="not supported"):
        ike_protection(IkeSuite(14, 128, 0, 5, 31), b"k" * 19, b"")
    with pytest.raises(CryptoError, match="never without"):
        ike_protection(IkeSuite(Encr.NULL, 0, 12, 5, 31), b"", b"a" * 32)


@pytest.mark.parametrize("seq_high", [None, 0, 1, 0xFFFFFFFF])
@pytest.mark.parametrize("suite", ESP_SUITES, ids=str)
def test_packets_come_back_and_touched_ones_are_refused(suite: ChildSuite, seq_high: int | None) -> None:
    transform = esp_transform(suite, bytes(range(key_material_length(suite))))
    plaintext = b"p" * 46 + b"\x00\x04"
    iv = bytes(range(transform.iv_length))
    body = transform.seal(HEADER, seq_high, iv, plaintext)
    assert len(body) == transform.iv_length + len(plaintext) + transform.icv_length
    assert len(plaintext) % transform.block == 0
    assert transform.open(HEADER, seq_high, body) == plaintext
    for at in range(0, len(body), 3):
        with pytest.raises(CryptoError, match="integrity"):
            transform.open(HEADER, seq_high, body[:at] + bytes((body[at] ^ 1,)) + body[at + 1 :])
    with pytest.raises(CryptoError, match="integrity"):
        transform.open(HEADER[:-1] + b"\x08", seq_high, body)
    with pytest.raises(CryptoError, match="integrity"):
        transform.open(HEADER, 5, body)
    for n in (*range(transform.iv_length + transform.icv_length + 2), len(body) - 1, len(body) - 2):
        with pytest.raises(CryptoError):
            transform.open(HEADER, seq_high, body[:n])


@pytest.mark.parametrize("esn", [None, 9])
def test_icv_of_hmacs_has_the_high_half_at_the_end(esn: int | None) -> None:
    """RFC 4303 section 2.2.1: with ESN the high half is authenticated behind Next Header and not sent; RFC 4868
    section 2.6: the ICV is truncated to half."""
    suite = ESP_SUITES[-1]
    body = esp_transform(suite, b"k" * 32).seal(HEADER, esn, b"", b"data\1\2\2\4")
    authenticated = HEADER + b"data\1\2\2\4" + (b"" if esn is None else esn.to_bytes(4, "big"))
    assert body == b"data\1\2\2\4" + hmac.digest(b"k" * 32, authenticated, "sha256")[:16]


def test_esp_refuses_other_protocols_and_keys_that_do_not_fit() -> None:
    with pytest.raises(CryptoError, match="only ESP"):
        esp_transform(ChildSuite(Protocol.AH, 0, 0, Integ.HMAC_SHA2_256_128, 0, False), b"k" * 32)
    for suite in ESP_SUITES:
        length = key_material_length(suite)
        for wrong in (length - 1, length + 1, 0):
            with pytest.raises(CryptoError, match="do not fit"):
                esp_transform(suite, bytes(wrong))


@pytest.mark.parametrize("suite", ESP_SUITES, ids=str)
def test_no_secret_in_repr(suite: ChildSuite) -> None:
    """Invariant I6."""
    key = b"\xc3" * key_material_length(suite)
    assert "c3c3" not in repr(esp_transform(suite, key)).replace("\\x", "")
