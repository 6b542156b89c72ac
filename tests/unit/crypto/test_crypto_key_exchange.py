"""Key exchanges between two sides, restored ones, and hostile public values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from ipsecha.crypto.key_exchange import SUPPORTED_GROUPS, new_key_exchange, restore_key_exchange
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import Group

PUBLIC_LENGTH = {14: 256, 15: 384, 16: 512, 19: 64, 20: 96, 21: 132, 31: 32}
SHARED_LENGTH = {14: 256, 15: 384, 16: 512, 19: 32, 20: 48, 21: 66, 31: 32}


def entropy_of(seed: str) -> Callable[[int], bytes]:
    """Entropy that is the same in each run."""
    count = 0

    def entropy(n: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_256(f"{seed}{count}".encode()).digest(n)

    return entropy


@pytest.mark.parametrize("group", SUPPORTED_GROUPS)
def test_both_sides_agree(group: int) -> None:
    ours, theirs = new_key_exchange(group, entropy_of("one")), new_key_exchange(group, entropy_of("two"))
    assert (ours.group, len(ours.public)) == (group, PUBLIC_LENGTH[group])
    secret = ours.shared(theirs.public)
    assert secret == theirs.shared(ours.public)
    assert len(secret) == SHARED_LENGTH[group]


@pytest.mark.parametrize("group", SUPPORTED_GROUPS)
def test_another_member_can_finish_it(group: int) -> None:
    """DESIGN section 3: the record holds what the next owner needs to go on in mid-exchange."""
    ours, theirs = new_key_exchange(group, entropy_of("one")), new_key_exchange(group, entropy_of("two"))
    restored = restore_key_exchange(group, ours.private)
    assert restored.public == ours.public
    assert restored.shared(theirs.public) == ours.shared(theirs.public)


@pytest.mark.parametrize("group", SUPPORTED_GROUPS)
def test_the_same_entropy_gives_the_same_key(group: int) -> None:
    assert new_key_exchange(group, entropy_of("a")).public == new_key_exchange(group, entropy_of("a")).public
    assert new_key_exchange(group, entropy_of("a")).public != new_key_exchange(group, entropy_of("b")).public


@pytest.mark.parametrize("group", SUPPORTED_GROUPS)
@pytest.mark.parametrize("octet", [b"\0", b"\xff"])
def test_extreme_entropy_gives_a_usable_key(group: int, octet: bytes) -> None:
    exchange = new_key_exchange(group, lambda n: octet * n)
    other = new_key_exchange(group, entropy_of("other"))
    assert exchange.shared(other.public) == other.shared(exchange.public)


@pytest.mark.parametrize("group", SUPPORTED_GROUPS)
def test_public_values_of_the_wrong_length_are_refused(group: int) -> None:
    exchange = new_key_exchange(group, entropy_of("one"))
    for wrong in (b"", exchange.public[:-1], exchange.public + b"\0", b"\x04" + exchange.public):
        with pytest.raises(CryptoError, match="octets"):
            exchange.shared(wrong)


@pytest.mark.parametrize("group", [Group.MODP_2048, Group.MODP_3072, Group.MODP_4096])
def test_modp_values_out_of_range_are_refused(group: int) -> None:
    """RFC 6989 section 2.1: 1 < y < p - 1."""
    exchange = new_key_exchange(group, entropy_of("one"))
    length = PUBLIC_LENGTH[group]
    minus_one = exchange._modp.prime - 1  # type: ignore[attr-defined]
    for value in (0, 1, minus_one, minus_one + 1, (1 << (8 * length)) - 1):
        with pytest.raises(CryptoError, match="out of the range"):
            exchange.shared(value.to_bytes(length, "big"))
    assert len(exchange.shared((2).to_bytes(length, "big"))) == length


@pytest.mark.parametrize("group", [Group.MODP_2048, Group.MODP_3072, Group.MODP_4096])
def test_modp_primes_begin_and_end_as_printed(group: int) -> None:
    """RFC 3526 sections 3 to 5: all primes begin and end with 64 ones around the bits of pi; they are safe primes."""
    prime = new_key_exchange(group, entropy_of("one"))._modp.prime  # type: ignore[attr-defined]
    text = f"{prime:X}"
    assert text.startswith("FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74")
    assert text.endswith(
        {14: "15728E5A8AACAA68", 15: "4B82D120A93AD2CA", 16: "90A6C08F4DF435C934063199"}[group] + "F" * 16
    )
    assert pow(3, prime - 1, prime) == 1
    assert pow(3, (prime - 1) // 2 - 1, (prime - 1) // 2) == 1


def test_shared_secrets_of_modp_are_padded() -> None:
    """RFC 7296 section 2.14: g^ir is padded with zeros to the length of the modulus."""
    exchange = restore_key_exchange(Group.MODP_2048, (1).to_bytes(40, "big"))
    assert exchange.public == (2).to_bytes(256, "big")
    assert exchange.shared((5).to_bytes(256, "big")) == (5).to_bytes(256, "big")


@pytest.mark.parametrize("group", [Group.ECP_256, Group.ECP_384, Group.ECP_521])
def test_points_off_the_curve_are_refused(group: int) -> None:
    """RFC 6989 section 2.3."""
    exchange = new_key_exchange(group, entropy_of("one"))
    half = len(exchange.public) // 2
    flipped = exchange.public[:-1] + bytes((exchange.public[-1] ^ 1,))
    for wrong in (flipped, bytes(2 * half), b"\xff" * 2 * half, exchange.public[half:] + exchange.public[:half]):
        with pytest.raises(CryptoError, match="not a point"):
            exchange.shared(wrong)


def test_small_order_points_are_refused() -> None:
    """RFC 8031 section 4, RFC 7748 section 6.1: the all-zero result."""
    exchange = new_key_exchange(Group.CURVE25519, entropy_of("one"))
    for wrong in (bytes(32), b"\1" + bytes(31)):
        with pytest.raises(CryptoError, match="small order"):
            exchange.shared(wrong)


@pytest.mark.parametrize("group", [0, 2, 5, 22, 32, 99])
def test_unknown_groups_are_refused(group: int) -> None:
    with pytest.raises(CryptoError, match="not supported"):
        new_key_exchange(group, entropy_of("one"))
    with pytest.raises(CryptoError):
        restore_key_exchange(group, bytes(32))


@pytest.mark.parametrize("group", SUPPORTED_GROUPS)
def test_private_values_that_do_not_belong_to_the_group_are_refused(group: int) -> None:
    private = new_key_exchange(group, entropy_of("one")).private
    for wrong in (b"", private[:-1], private + b"\0"):
        with pytest.raises(CryptoError, match="no private value"):
            restore_key_exchange(group, wrong)
    if group in (Group.ECP_256, Group.ECP_384, Group.ECP_521):
        for wrong in (bytes(len(private)), b"\xff" * len(private)):
            with pytest.raises(CryptoError, match="out of the range"):
                restore_key_exchange(group, wrong)


def test_no_secret_in_repr() -> None:
    """Invariant I6."""
    assert repr(new_key_exchange(Group.CURVE25519, entropy_of("one"))) == "KeyExchange(group 31)"
