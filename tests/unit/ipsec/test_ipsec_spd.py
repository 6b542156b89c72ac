"""The SPD: order, narrowed selectors, decorrelated and bounded caches, no walk over SAs (RFC 4301 section 4.4.1)."""

from __future__ import annotations

import ipaddress
from typing import Any, cast

import pytest

from esp_pair import child_policy, child_sa, connection, selectors
from ipsecha.ipsec import spd as spd_module
from ipsecha.ipsec.selection import Selection, cover_by_prefixes
from ipsecha.ipsec.spd import ACQUIRE, BYPASS, DISCARD, NO_MATCH, NO_SA, Bundle, Spd, Verdict
from ipsecha.model.policy import Action, Policy, Rule, Start
from ipsecha.model.selectors import TrafficSelector, selector_from_prefix


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def decide(
    spd: Spd, local: str, remote: str, protocol: int = 6, ports: tuple[int | None, int | None] = (1, 2)
) -> Bundle | Verdict:
    found = spd.lookup_addresses(packed(local) + packed(remote))
    return found if found is not None else spd.lookup(packed(local), packed(remote), protocol, *ports)


def kind(found: Bundle | Verdict) -> int:
    assert isinstance(found, Verdict)
    return found.kind


def test_rules_come_before_entries_in_their_order() -> None:
    rules = (
        Rule(Action.BYPASS, selectors("10.1.0.0/16"), selectors("10.2.3.0/24")),
        Rule(Action.DISCARD, selectors("10.1.0.0/16"), selectors("10.2.0.0/20")),
    )
    spd = Spd(Policy((connection((child_policy(),)),), rules))
    assert kind(decide(spd, "10.1.0.1", "10.2.3.4")) == BYPASS
    assert kind(decide(spd, "10.1.0.1", "10.2.4.4")) == DISCARD
    assert kind(decide(spd, "10.1.0.1", "10.2.99.4")) == ACQUIRE
    assert kind(decide(spd, "10.9.0.1", "10.2.99.4")) == NO_MATCH


def test_the_first_entry_that_matches_decides_even_without_an_sa() -> None:
    """An entry further down must not get a packet that an entry above it would protect (RFC 4301 section 4.4.1)."""
    site = connection((child_policy("site", remote=("10.2.3.0/24",), start=Start.NONE),), "site")
    rest = connection((child_policy("rest", remote=("0.0.0.0/0",)),), "rest")
    spd = Spd(Policy((site, rest)))
    spd.put("rest", child_sa(1000, 1, name="rest", remote_ts=selectors("0.0.0.0/0")))
    assert kind(decide(spd, "10.1.0.1", "10.2.3.4")) == NO_SA
    assert isinstance(decide(spd, "10.1.0.1", "8.8.8.8"), Bundle)
    spd.put("site", child_sa(1001, 2, name="site", remote_ts=selectors("10.2.3.0/24")))
    found = decide(spd, "10.1.0.1", "10.2.3.4")
    assert isinstance(found, Bundle)
    assert found.spi_in == 1001


def test_peers_without_a_fixed_address_do_not_shadow_what_follows() -> None:
    roaming = connection((child_policy("roam", remote=("10.0.0.0/8",), start=Start.NONE),), "roam", remote=())
    site = connection((child_policy("site", remote=("10.2.0.0/16",)),), "site")
    spd = Spd(Policy((roaming, site)))
    spd.put("site", child_sa(1001, 2, name="site", remote_ts=selectors("10.2.0.0/16")))
    found = decide(spd, "10.1.0.1", "10.2.0.9")
    assert isinstance(found, Bundle)
    spd.put("roam", child_sa(1002, 3, name="roam", remote_ts=selectors("10.2.0.9")))
    found = decide(spd, "10.1.0.1", "10.2.0.9")
    assert isinstance(found, Bundle)
    assert found.spi_in == 1002


def test_the_newest_that_may_send_is_chosen_and_a_rekey_keeps_the_caches() -> None:
    spd = Spd(Policy((connection((child_policy(),)),)))
    spd.put("peer", child_sa(1000, 1, created_at=5.0))
    bundle = decide(spd, "10.1.0.1", "10.2.0.1")
    assert isinstance(bundle, Bundle)
    newer = child_sa(1001, 2, created_at=9.0, use_outbound=False)
    spd.put("peer", newer)
    assert bundle.spi_in == 1000
    newer.use_outbound = True
    spd.put("peer", newer)
    assert bundle.spi_in == 1001
    spd.drop(1000)
    assert bundle.spi_in == 1001
    assert len(spd.by_addresses) == 1
    spd.drop(1001)
    assert kind(decide(spd, "10.1.0.1", "10.2.0.1")) == ACQUIRE


def test_selectors_with_ports_split_what_addresses_would_join() -> None:
    """Decorrelation: a pair of addresses that an entry with ports could match is looked up by all selectors."""
    web = TrafficSelector(packed("10.2.0.1"), packed("10.2.0.1"), 6, 443, 443)
    one = child_policy("web")
    policy = Policy((connection((one,)),), (Rule(Action.BYPASS, selectors("10.1.0.0/16"), (web,)),))
    spd = Spd(policy)
    assert kind(decide(spd, "10.1.0.1", "10.2.0.1", 6, (5000, 443))) == BYPASS
    assert kind(decide(spd, "10.1.0.1", "10.2.0.1", 6, (5000, 80))) == ACQUIRE
    assert kind(decide(spd, "10.1.0.1", "10.2.0.1", 17, (5000, 443))) == ACQUIRE
    assert kind(decide(spd, "10.1.0.1", "10.2.0.1", 6, (None, None))) == ACQUIRE  # a later fragment shows no port
    assert spd.by_addresses[packed("10.1.0.1") + packed("10.2.0.1")] is None
    assert spd.lookup_addresses(packed("10.1.0.1") + packed("10.2.0.2")) is not None


def test_opaque_and_any_select_packets_without_ports() -> None:
    opaque = TrafficSelector(packed("10.2.0.0"), packed("10.2.0.255"), 17, 65535, 0)
    selection = Selection(selectors("10.1.0.0/16"), (opaque,))
    assert selection.matches(packed("10.1.0.1"), packed("10.2.0.1"), 17, None, None)
    assert not selection.matches(packed("10.1.0.1"), packed("10.2.0.1"), 17, 5, 5)


def test_caches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spd_module, "CACHE_LIMIT", 10)
    spd = Spd(Policy((connection((child_policy(),)),)))
    for number in range(100):
        decide(spd, "10.1.0.1", f"10.2.0.{number}")
        spd.lookup(packed("10.1.0.1"), packed("10.2.0.1"), 6, number, 1)
    assert len(spd.by_addresses) == 10
    assert len(spd.by_selectors) == 10


def test_a_lookup_among_many_sas_looks_at_one() -> None:
    spd = Spd(Policy((connection((child_policy(remote=("10.0.0.0/8",)),), remote=()),)))
    for number in range(3000):
        remote = selectors(f"10.2.{number // 250}.{number % 250}")
        spd.put("peer", child_sa(1000 + number, number, remote_ts=remote))
    assert len(list(spd._candidates(packed("10.1.0.1"), packed("10.2.3.7")))) == 1
    found = decide(spd, "10.1.0.1", "10.2.3.7")
    assert isinstance(found, Bundle)
    assert found.spi_in == 1000 + 757
    for number in range(3000):
        spd.drop(1000 + number)
    assert not spd._tables
    assert not len(spd)


def test_a_new_policy_leaves_installed_sas_where_they_are() -> None:
    policy = Policy((connection((child_policy(),)),))
    spd = Spd(policy)
    bundle = spd.put("peer", child_sa(1001, 1))
    bundle.current = in_use = cast(Any, object())
    spd.configure(policy)
    assert decide(spd, "10.1.0.1", "10.2.0.1") is bundle
    assert bundle.current is in_use
    assert spd.put("peer", child_sa(1002, 2)) is bundle
    assert bundle.spi_in == 1002


def test_a_new_policy_moves_installed_sas_to_their_new_places() -> None:
    one, two = connection((child_policy("one"),), "one"), connection((child_policy("two"),), "two")
    spd = Spd(Policy((one, two)))
    spd.put("one", child_sa(1001, 1, name="one"))
    spd.put("two", child_sa(1002, 2, name="two"))
    found = decide(spd, "10.1.0.1", "10.2.0.1")
    assert isinstance(found, Bundle)
    assert found.spi_in == 1001
    spd.configure(Policy((two, one)))
    found = decide(spd, "10.1.0.1", "10.2.0.1")
    assert isinstance(found, Bundle)
    assert found.spi_in == 1002
    spd.configure(Policy((one,)))
    found = decide(spd, "10.1.0.1", "10.2.0.1")
    assert isinstance(found, Bundle)
    assert found.spi_in == 1001


@pytest.mark.parametrize(
    ("text", "count"),
    [("10.0.0.0/8", 1), ("10.0.0.1-10.0.0.6", 4), ("10.0.0.1-10.255.255.254", 1), ("::1-ffff::", 1), ("0.0.0.0/0", 1)],
)
def test_ranges_are_covered_by_few_prefixes(text: str, count: int) -> None:
    one = selector_from_prefix(text)
    prefixes = cover_by_prefixes(one.start, one.end)
    assert len(prefixes) == count
    bits = len(one.start) * 8
    for address in (one.start, one.end):
        number = int.from_bytes(address, "big")
        assert any(number >> (bits - length) == leading for length, leading in prefixes)
