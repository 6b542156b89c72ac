"""What a stranger claims to be stands in the log before anything is authenticated: one line, of bounded length."""

from __future__ import annotations

import pytest

from ipsecha.model.identity import Identity, parse_identity
from ipsecha.model.numbers import IdType

KINDS = [int(kind) for kind in IdType] + [0, 77, 255]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "data",
    [
        b"x\nERROR site: a forged line",
        b"x\r\x1b[2J\x07",
        "x\u202egnp\u2028".encode(),
        b"\xff\xfe\x00" * 30_000,
        b"",
    ],
)
def test_the_text_is_one_bounded_line(kind: int, data: bytes) -> None:
    text = str(Identity(kind, data))
    assert text.isprintable()
    assert len(text) < 2000


@pytest.mark.parametrize("text", ["gw.example.org", "anna@example.org", "192.0.2.1", "2001:db8::1"])
def test_honest_identities_stay_readable(text: str) -> None:
    assert str(parse_identity(text)) == text
