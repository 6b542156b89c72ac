"""Cookies against floods."""

from ike_pair import Entropy
from ipsecha.ike.cookies import ROTATE_S, Cookies
from ipsecha.ike.limits import TokenBucket

NONCE, IP, SPI = bytes(32), "192.0.2.1", b"12345678"


def test_a_cookie_is_recognised_for_the_same_request_only() -> None:
    cookies = Cookies(Entropy("cookies"))
    cookie = cookies.make(0.0, NONCE, IP, SPI)
    assert 1 <= len(cookie) <= 64
    assert cookies.check(1.0, cookie, NONCE, IP, SPI)
    assert not cookies.check(1.0, cookie, b"1" * 32, IP, SPI)
    assert not cookies.check(1.0, cookie, NONCE, "192.0.2.2", SPI)
    assert not cookies.check(1.0, cookie, NONCE, IP, b"87654321")
    assert not cookies.check(1.0, cookie[:-1], NONCE, IP, SPI)
    assert not cookies.check(1.0, cookie[:-1] + bytes((cookie[-1] ^ 1,)), NONCE, IP, SPI)


def test_the_secret_is_rotated_and_the_one_before_still_accepted() -> None:
    cookies = Cookies(Entropy("cookies"))
    first = cookies.make(0.0, NONCE, IP, SPI)
    second = cookies.make(ROTATE_S + 1, NONCE, IP, SPI)
    assert first != second
    assert cookies.check(ROTATE_S + 2, first, NONCE, IP, SPI)
    cookies.make(2 * ROTATE_S + 2, NONCE, IP, SPI)
    assert not cookies.check(2 * ROTATE_S + 3, first, NONCE, IP, SPI)
    assert cookies.check(2 * ROTATE_S + 3, second, NONCE, IP, SPI)


def test_a_cookie_does_not_live_on_when_nobody_asks_for_new_ones() -> None:
    cookies = Cookies(Entropy("cookies"))
    cookie = cookies.make(0.0, NONCE, IP, SPI)
    assert not cookies.check(10 * ROTATE_S, cookie, NONCE, IP, SPI)
    assert not Cookies(Entropy("other")).check(0.0, cookie, NONCE, IP, SPI)


def test_a_token_bucket_allows_a_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(2.0, 3.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(1.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
