"""The values of the configuration: what is understood, and that nothing else crashes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecha.gateway import config_values as values
from ipsecha.gateway.config_identities import identity
from ipsecha.gateway.config_proposals import REFUSED, SPELLINGS, parse_child, parse_ike
from ipsecha.model.numbers import Encr
from ipsecha.model.policy import Start
from ipsecha.model.proposals import ALGORITHM_TOKENS
from ipsecha.model.selectors import TrafficSelector, selector_from_prefix

any_duration = values.duration(0, 10**9, word="never")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("4h", 14400), ("30s", 30), ("1h30m", 5400), ("100ms", 0.1), ("1.5h", 5400), ("1d 2h", 93600), ("never", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert any_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "h", "4", "4 hours", "-4h", "4h4", "1e3s", "h4", "4µs", "٤h", 4, True, None, []])
def test_no_durations(text: Any) -> None:
    with pytest.raises(values.Wrong):
        any_duration(text)


@given(st.integers(1, 10**7))
def test_durations_are_shown_as_they_are_read(seconds: int) -> None:
    assert any_duration(values.duration_text(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "octets"),
    [("10GB", 10**10), ("10 GB", 10**10), ("4GiB", 4 << 30), ("1.5TB", 1500 * 10**9), (2000000, 2000000), ("never", 0)],
)
def test_sizes(text: Any, octets: int) -> None:
    assert values.size(text) == octets


@pytest.mark.parametrize(("text", "count"), [(1000, 1000), ("500M", 500 * 10**6), ("2000", 2000), ("never", 0)])
def test_packets(text: Any, count: int) -> None:
    assert values.packets(text) == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.0.0/16", selector_from_prefix("10.1.0.0/16")),
        ("10.1.0.7", selector_from_prefix("10.1.0.7/32")),
        ("10.0.0.1-10.0.0.9", selector_from_prefix("10.0.0.1-10.0.0.9")),
        ("10.1.0.0/24[tcp/80]", selector_from_prefix("10.1.0.0/24", 6, (80, 80))),
        ("10.1.0.0/24[udp/5000-5010]", selector_from_prefix("10.1.0.0/24", 17, (5000, 5010))),
        ("2001:db8::/32[icmpv6]", selector_from_prefix("2001:db8::/32", 58)),
        ("10.1.0.0/24[icmp/8]", selector_from_prefix("10.1.0.0/24", 1, (0x800, 0x8FF))),
        ("10.1.0.0/24[47]", selector_from_prefix("10.1.0.0/24", 47)),
        ("::/0", selector_from_prefix("::/0")),
    ],
)
def test_selectors(text: str, expected: TrafficSelector) -> None:
    assert values.selector(text) == expected


@given(
    st.ip_addresses(v=4),
    st.integers(0, 32),
    st.sampled_from([0, 6, 17, 47]),
    st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(sorted),
)
def test_selectors_are_read_as_they_are_shown(address: Any, length: int, protocol: int, ports: list[int]) -> None:
    """What ``status`` prints can go into the configuration."""
    network = f"{address}/{length}"
    import ipaddress

    plain = str(ipaddress.ip_network(network, strict=False))
    selector = selector_from_prefix(plain, protocol, (ports[0], ports[1]) if protocol else (0, 65535))
    assert values.selector(str(selector)) == selector


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.0.1:4600", ("10.0.0.1", 4600)), ("[fd00::1]:1", ("fd00::1", 1)), ("0.0.0.0:500", ("0.0.0.0", 500))],
)
def test_endpoints(text: str, expected: tuple[str, int]) -> None:
    assert values.endpoint(text) == expected


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1", "10.0.0.1:0", "10.0.0.1:65536", "fd00::1:80", "[10.0.0.1]:80", ":80", "host:80", "1.2.3.4:٤", 5],
)
def test_no_endpoints(text: Any) -> None:
    with pytest.raises(values.Wrong):
        values.endpoint(text)


def test_networks_of_one_address_are_addresses() -> None:
    assert values.network("203.0.113.7/32") == "203.0.113.7"
    assert values.network("2001:DB8::/32") == "2001:db8::/32"


def test_every_algorithm_is_taken_or_refused_with_a_reason() -> None:
    assert not set(REFUSED) & set(ALGORITHM_TOKENS)
    assert not set(SPELLINGS) & (set(REFUSED) | set(ALGORITHM_TOKENS))
    assert all(target in ALGORITHM_TOKENS for target in SPELLINGS.values())
    assert all(reason for reason in REFUSED.values())


def test_alternatives_share_a_proposal_and_other_spellings_work() -> None:
    proposal = parse_ike("AES256GCM-aes128gcm16-prfsha256-curve25519-x25519")
    assert [(t.id, t.key_bits) for t in proposal.of_type(1)] == [(Encr.AES_GCM_16, 256), (Encr.AES_GCM_16, 128)]
    assert len(proposal.of_type(4)) == 1
    assert [t.id for t in parse_child("aes256gcm16-noesn").of_type(5)] == [0]


toml_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.dates(), st.times(),
        st.from_regex(r"[0-9.:/\[\]\-a-z<>]{0,30}", fullmatch=True),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=4,
)  # fmt: skip
converters: list[Callable[[object], object]] = [
    values.text, values.name, values.member_name, values.interface, values.boolean, values.integer(0, 9),
    values.number(0, 1), values.choice(Start), any_duration, values.size, values.packets, values.address,
    values.unicast_address, values.network, values.address_with_prefix, values.endpoint, values.selector,
    parse_ike, parse_child, identity,
]  # fmt: skip


@given(value=toml_values)
def test_any_value_is_taken_or_wrong(value: object) -> None:
    texts = []
    for convert in converters:
        try:
            convert(value)
        except values.Wrong as wrong:
            texts.append(wrong.text)
    assert all(text.isprintable() for text in texts)
