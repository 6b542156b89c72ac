"""Proposals: what is refused, with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from config_texts import CHILD, CONNECTION, LAST, edited

ALGORITHMS = [
    (
        "3des-sha256-x25519",
        '"3des" is refused: 64-bit blocks collide within a busy hour (Sweet32; RFC 8221: SHOULD NOT)',
    ),
    ("aes256-md5-x25519", '"md5" is refused: RFC 8247 forbids it (MUST NOT)'),
    ("aes256-sha1-x25519", '"sha1" is refused: SHA-1 is being retired (RFC 8247: MUST-)'),
    ("aes256gcm16-prfsha256-modp1024", '"modp1024" is refused: too weak (RFC 8247: SHOULD NOT)'),
    ("aes256gcm16-prfsha256-modp768", '"modp768" is refused: RFC 8247 forbids it (MUST NOT)'),
    ("aes256gcm8-prfsha256-x25519", '"aes256gcm8" is refused: its ICV is shortened: use gcm16'),
    ("aes256ctr-sha256-x25519", '"aes256ctr" is refused: not implemented by ipsecha'),
    ("null-sha256-x25519", '"null" is refused for IKE: RFC 8247 forbids it (MUST NOT)'),
    ("aes256gmc16-prfsha256-x25519", 'unknown algorithm "aes256gmc16"; did you mean "aes256gcm16"?'),
    ("aes256gcm16-x25519", 'expected a PRF beside an AEAD, such as "prfsha256", found "aes256gcm16-x25519"'),
    (
        "aes256gcm16-sha256-prfsha256-x25519",
        "an AEAD needs no integrity algorithm: leave it out (RFC 7296 section 3.3)",
    ),
    (
        "aes256gcm16-aes256-prfsha256-x25519",
        "AEAD and other encryption algorithms cannot share a proposal: write two proposals (RFC 7296 section 3.3)",
    ),
    ("aes256-x25519", 'expected an integrity algorithm such as "sha256" beside the encryption, found "aes256-x25519"'),
    ("aes256-sha256", 'expected a key exchange such as "x25519", found "aes256-sha256"'),
    ("sha256-x25519", 'expected an encryption algorithm such as "aes256gcm16", found "sha256-x25519"'),
    ("aes256-sha256-x25519-esn", '"esn" and "noesn" belong to the proposals of children, not to those of a connection'),
    ("aes256--x25519", 'expected algorithms such as "aes256gcm16-prfsha256-x25519", found nothing between two hyphens'),
    ("-".join(["aes256"] * 41), "expected at most 40 algorithms in a proposal, found 41"),
]


@pytest.mark.parametrize(("proposal", "reason"), ALGORITHMS)
def test_refused_algorithms_of_ike(complaints: Any, proposal: str, reason: str) -> None:
    """RFC 8247 section 2: what MUST NOT be used is refused with the reason."""
    found = complaints(edited(CONNECTION, f'{CONNECTION}\nproposals = ["{proposal}"]'))
    assert found == [f"policy.toml:5: connections.paris.proposals[1]: {reason}"]


@pytest.mark.parametrize(
    ("proposal", "expected"),
    [
        ("null-sha256", 'warning: {}: "null" does not encrypt: everybody on the way can read the traffic'),
        ("aes256gcm16-prfsha256", "{}: a PRF belongs to the proposals of a connection, not to those of a child"),
        ("aes256", '{}: expected an integrity algorithm such as "sha256" beside the encryption, found "aes256"'),
        ("aes256-aes128gmac", "{}: AES-GMAC as an integrity algorithm is for AH only (RFC 4543 section 5.3)"),
    ],
)
def test_algorithms_of_children(complaints: Any, proposal: str, expected: str) -> None:
    found = complaints(edited(LAST, f'{LAST}\nproposals = "{proposal}"'))
    assert found == [f"policy.toml:9: {expected.format(CHILD + '.proposals')}"]


_READABLE = "warning: {}protocol: AH does not encrypt: everybody on the way can read the traffic"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (('protocol = "ah"',), [_READABLE]),
        (('protocol = "ah"', 'proposals = ["sha256-x25519", "aes256gmac-esn"]'), [_READABLE]),
        (
            ('protocol = "ah"', 'proposals = "aes256-sha256"'),
            [_READABLE, "{}proposals: AH encrypts nothing: an encryption algorithm belongs to ESP (RFC 4302)"],
        ),
        (
            ('protocol = "ah"', 'proposals = "x25519"'),
            [_READABLE, '{}proposals: expected an integrity algorithm such as "sha256", found "x25519"'],
        ),
        (('protocol = "null"',), ['{}protocol: expected "esp" or "ah", found "null"']),
    ],
)
def test_ah(complaints: Any, lines: tuple[str, ...], expected: list[str]) -> None:
    """RFC 4302: integrity only; RFC 7296 section 3.3.3: INTEG and ESN are mandatory, ENCR is not for AH."""
    found = complaints(edited(LAST, "\n".join((LAST, *lines))))
    assert [line.split(": ", 1)[1] for line in found] == [line.format(f"{CHILD}.") for line in expected]


def test_ah_is_not_encapsulated(complaints: Any) -> None:
    text = edited(CONNECTION, f"{CONNECTION}\nencapsulate = true").replace(LAST, f'{LAST}\nprotocol = "ah"')
    assert [line.split(": ", 1)[1] for line in complaints(text)] == [
        f"{CHILD}.protocol: AH cannot be encapsulated in UDP: leave out the connection's encapsulate = true"
    ]
