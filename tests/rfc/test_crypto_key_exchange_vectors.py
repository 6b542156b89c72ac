"""RFC 8031 appendix A, RFC 5903 section 8, RFC 6989, and Wycheproof's attacks on key exchanges."""

from __future__ import annotations

import pytest
from crypto_vectors import load, wycheproof

from ipsecha.crypto.key_exchange import restore_key_exchange
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Group


def test_x25519_of_rfc_8031() -> None:
    """RFC 8031 appendix A; the shared secret is not reversed (section 2)."""
    vector = load("rfc_printed_vectors.json")["vectors"]["rfc8031_curve25519_group31"]
    values = {name: bytes.fromhex(value) for name, value in vector.items()}
    ours = restore_key_exchange(Group.CURVE25519, values["random_i"])
    assert ours.public == values["pub_i"]
    assert ours.shared(values["pub_r"]) == values["shared"]
    assert restore_key_exchange(Group.CURVE25519, values["random_r"]).shared(ours.public) == values["shared"]


def test_ecp_groups_of_rfc_5903() -> None:
    """RFC 5903 sections 7 and 8: public values are x | y, the shared secret is x."""
    for vector in load("rfc_printed_vectors.json")["vectors"]["rfc5903_ecp_groups"]:
        group = vector["group"]
        ours, theirs = (restore_key_exchange(group, bytes.fromhex(vector[name])) for name in "ir")
        assert ours.public.hex() == vector["gix"] + vector["giy"]
        assert theirs.public.hex() == vector["grx"] + vector["gry"]
        assert ours.shared(theirs.public).hex() == theirs.shared(ours.public).hex() == vector["girx"]
        assert bytes.fromhex(vector["KEi"])[8:] == ours.public


def test_x25519_against_wycheproof() -> None:
    """RFC 8031 section 3.2: non-canonical values MUST be accepted, the top bit masked; section 4 with RFC 7748
    section 6.1: an all-zero result is refused."""
    refused = 0
    for _, test in wycheproof("x25519"):
        exchange = restore_key_exchange(Group.CURVE25519, bytes.fromhex(test["private"]))
        if "ZeroSharedSecret" in test["flags"]:
            with pytest.raises(CryptoError, match="small order"):
                exchange.shared(bytes.fromhex(test["public"]))
            refused += 1
        else:
            assert exchange.shared(bytes.fromhex(test["public"])).hex() == test["shared"], test["tcId"]
    assert refused > 20


@pytest.mark.parametrize(
    ("name", "group", "length"),
    [("secp256r1", Group.ECP_256, 32), ("secp384r1", Group.ECP_384, 48), ("secp521r1", Group.ECP_521, 66)],
)
def test_ecp_groups_against_wycheproof(name: str, group: int, length: int) -> None:
    """RFC 6989 section 2.3: a point that is not on the curve MUST be refused."""
    refused = 0
    for _, test in wycheproof(f"ecdh_{name}_ecpoint"):
        private = int(test["private"], 16).to_bytes(length, "big")
        point = bytes.fromhex(test["public"])
        exchange = restore_key_exchange(group, private)
        if test["result"] == "valid":
            assert point[0] == 4
            assert exchange.shared(point[1:]).hex() == test["shared"], test["tcId"]
        else:  # compressed points too: RFC 5903 knows only x | y
            with pytest.raises(CryptoError):
                exchange.shared(point[1:])
            refused += 1
    assert refused > 15
