"""Known answers for IKE message and ESP packet protection: RFC 3602, 4106, 7634, captures, Wycheproof."""

from __future__ import annotations

import csv
from typing import Any

import pytest
from crypto_vectors import load, vector_file, wycheproof

from ipsecha.crypto.esp_transforms import esp_transform
from ipsecha.crypto.protection import ike_protection
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Encr, Group, Integ, Prf, Protocol
from ipsecha.model.proposals import ChildSuite, IkeSuite

CHACHA_IKE = IkeSuite(Encr.CHACHA20_POLY1305, 0, 0, Prf.HMAC_SHA2_256, Group.CURVE25519)
CHACHA_ESP = ChildSuite(Protocol.ESP, Encr.CHACHA20_POLY1305, 0, 0, 0, False)


def printed(name: str) -> Any:
    return load("rfc_printed_vectors.json")["vectors"][name]


def gcm(bits: int) -> ChildSuite:
    return ChildSuite(Protocol.ESP, Encr.AES_GCM_16, bits, 0, 0, False)


def test_chacha20_poly1305_of_rfc_7634() -> None:
    """RFC 7634 appendix A (ESP packet) and appendix B (IKE message)."""
    vector = printed("rfc7634")
    key = bytes.fromhex(vector["key"] + vector["salt"])
    packet = bytes.fromhex(vector["esp"]["esp_packet"])[20:]
    transform = esp_transform(CHACHA_ESP, key)
    plaintext = transform.open(packet[:8], None, packet[8:])
    assert plaintext[:84].hex() == vector["esp"]["source_packet"]
    assert plaintext[84:] == bytes((1, 2, 2, 4))  # padding, Pad Length, Next Header
    assert transform.seal(packet[:8], None, bytes.fromhex(vector["iv"]), plaintext) == packet[8:]

    message = bytes.fromhex(vector["ike"]["message"])
    protection = ike_protection(CHACHA_IKE, key, b"")
    inner = bytes.fromhex(vector["ike"]["plaintext_with_padlen"])[:-1]
    assert protection.open(message[:32], message[32:]) == inner
    assert protection.seal(message[:32], message[32:40], inner) == message[32:]


def test_aes_cbc_of_rfc_3602() -> None:
    """RFC 3602 section 4: cases 1 to 4 (blocks) and 5 to 8 (ESP packets without ICV)."""
    suite = ChildSuite(Protocol.ESP, Encr.AES_CBC, 128, Integ.HMAC_SHA2_256_128, 0, False)
    for vector in printed("rfc3602_aes_cbc_esp"):
        plaintext = bytes.fromhex(vector.get("plaintext") or vector["plaintext_with_trailer"])
        transform = esp_transform(suite, bytes.fromhex(vector["key"]) + b"k" * 32)
        header = bytes.fromhex(vector.get("spi_seq", "0000432100000001"))
        body = transform.seal(header, None, bytes.fromhex(vector["iv"]), plaintext)
        assert body[: -transform.icv_length].hex() == vector["iv"] + vector["ciphertext"], vector["case"]
        assert transform.open(header, None, body) == plaintext


@pytest.mark.parametrize(("name", "count"), [("AES-GCM-ESP rfc4106", 20), ("ChaCha20-Poly1305-ESP rfc7634", 1)])
def test_esp_aeads_of_linux(name: str, count: int) -> None:
    """RFC 4106 sections 3 to 5, RFC 7634 section 2: nonce salt | IV, AAD of 8 octets or 12 with ESN."""
    checked = 0
    for vector in load("esp_aead_linux_testmgr.json")["vectors"][name]:
        key, aad, plaintext = (bytes.fromhex(vector[part]) for part in ("key", "aad", "plaintext"))
        sealed = bytes.fromhex(vector["iv"] + vector["ciphertext_and_tag"])
        suite = gcm(len(key) * 8) if "GCM" in name else CHACHA_ESP
        transform = esp_transform(suite, key + bytes.fromhex(vector["salt"]))
        seq_high = int.from_bytes(aad[4:8], "big") if len(aad) == 12 else None
        header = aad[:4] + aad[8:] if seq_high is not None else aad
        assert transform.seal(header, seq_high, sealed[:8], plaintext) == sealed
        if len(plaintext) % 4 == 0:  # ESP aligns on 4 octets, not all of these vectors do
            assert transform.open(header, seq_high, sealed) == plaintext
        checked += 1
    assert checked >= count


@pytest.mark.parametrize("name", ["aes_gcm", "chacha20_poly1305"])
def test_aeads_against_wycheproof(name: str) -> None:
    checked = 0
    for group, test in wycheproof(name):
        message, iv = bytes.fromhex(test["msg"]), bytes.fromhex(test["iv"])
        if group["ivSize"] != 96 or len(message) % 4 or not message:
            continue
        suite = gcm(group["keySize"]) if name == "aes_gcm" else CHACHA_ESP
        transform = esp_transform(suite, bytes.fromhex(test["key"]) + iv[:4])
        aad, sealed = bytes.fromhex(test["aad"]), iv[4:] + bytes.fromhex(test["ct"] + test["tag"])
        if test["result"] == "valid":
            assert transform.open(aad, None, sealed) == message, test["tcId"]
            assert transform.seal(aad, None, iv[4:], message) == sealed
        else:
            with pytest.raises(CryptoError, match="integrity"):
                transform.open(aad, None, sealed)
        checked += 1
    assert checked > 100


def test_aes_cbc_against_wycheproof() -> None:
    checked = 0
    for group, test in wycheproof("aes_cbc_pkcs5"):
        if test["result"] != "valid":
            continue  # the faults are all in PKCS #5 padding, which ESP does not have
        message = bytes.fromhex(test["msg"])
        pad = 16 - len(message) % 16
        suite = ChildSuite(Protocol.ESP, Encr.AES_CBC, group["keySize"], Integ.HMAC_SHA2_512_256, 0, False)
        transform = esp_transform(suite, bytes.fromhex(test["key"]) + b"k" * 64)
        body = transform.seal(b"h" * 8, None, bytes.fromhex(test["iv"]), message + bytes((pad,)) * pad)
        assert body[16:-32].hex() == test["ct"], test["tcId"]
        checked += 1
    assert checked > 50


@pytest.mark.parametrize(
    ("name", "suite"),
    [
        ("aes256cbc.pcapng", IkeSuite(Encr.AES_CBC, 256, Integ.HMAC_SHA2_256_128, Prf.HMAC_SHA2_256, Group.MODP_2048)),
        ("aes256gcm16.pcap", IkeSuite(Encr.AES_GCM_16, 256, 0, Prf.HMAC_SHA2_256, Group.MODP_2048)),
    ],
)
def test_captured_ike_messages(name: str, suite: IkeSuite) -> None:
    """RFC 7296 section 3.14, RFC 5282: messages of real peers, from Wireshark's tests."""
    capture = vector_file(f"wireshark/ikev2-decrypt-{name}").read_bytes()
    messages = next(entry for entry in load("wireshark/expected.json") if entry["file"].endswith(name))["messages"]
    rows = csv.reader(vector_file("wireshark/ikev2_decryption_table.csv").read_text().splitlines()[2:])
    keys = {row[0]: [bytes.fromhex(row[at]) for at in (2, 3, 5, 6)] for row in rows}[messages[0]["ispi"]]
    checked = 0
    for message in messages:
        if "plaintext_with_pad" not in message:
            continue
        octets = find_message(capture, message)
        from_initiator = bool(message["flags"] & 8)
        sk_e, sk_a = (keys[0], keys[2]) if from_initiator else (keys[1], keys[3])
        expected = bytes.fromhex(message["plaintext_with_pad"])
        inner = ike_protection(suite, sk_e, sk_a).open(octets[:32], octets[32:])
        assert inner == expected[: len(expected) - 1 - expected[-1]]
        checked += 1
    assert checked >= 2


def find_message(capture: bytes, message: dict[str, Any]) -> bytes:
    """The IKE message in the octets of a capture, found by its header."""
    at = -1
    while True:
        at = capture.index(bytes.fromhex(message["ispi"] + message["rspi"]), at + 1)
        header = capture[at : at + 28]
        fields = (header[18], header[19], int.from_bytes(header[20:24], "big"), int.from_bytes(header[24:], "big"))
        if fields == (message["exchange"], message["flags"], message["msgid"], message["len"]):
            return capture[at : at + message["len"]]
