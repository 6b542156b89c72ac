"""Which connections a pair of addresses allows."""

from __future__ import annotations

from ike_pair import connection, proposal
from ipsecha.ike.candidates import MEMO_LIMIT, Candidates
from ipsecha.model.policy import Connection, Policy

HERE, OTHER = "192.0.2.1", "192.0.2.9"


def site(name: str, *remote: str, local: tuple[str, ...] = (HERE,), **more: object) -> Connection:
    return connection(
        HERE, "0.0.0.0/0", "here.example", f"{name}.example", name=name, remote=remote, local=local, **more
    )


def names(candidates: Candidates, local: str, remote: str) -> tuple[str, ...]:
    found = candidates.find(local, remote)
    return found.names if found is not None else ()


def test_the_most_specific_connection_comes_first() -> None:
    candidates = Candidates(
        Policy(
            (
                site("anyone"),
                site("net", "198.51.100.0/24"),
                site("host", "198.51.100.7"),
                site("several", "203.0.113.1", "198.51.100.0/28"),
            )
        )
    )
    assert names(candidates, HERE, "198.51.100.7") == ("host", "several", "net", "anyone")
    assert names(candidates, HERE, "198.51.100.200") == ("net", "anyone")
    assert names(candidates, HERE, "203.0.113.1") == ("several", "anyone")
    assert names(candidates, HERE, "2001:db8::5") == ("anyone",)


def test_equally_specific_connections_keep_the_order_of_the_file() -> None:
    candidates = Candidates(Policy((site("b", "198.51.100.0/24"), site("a", "198.51.100.0/24"))))
    assert names(candidates, HERE, "198.51.100.1") == ("b", "a")


def test_the_local_address_counts() -> None:
    candidates = Candidates(Policy((site("both", local=(HERE, OTHER)), site("one"))))
    assert names(candidates, OTHER, "198.51.100.1") == ("both",)
    assert names(candidates, HERE, "198.51.100.1") == ("both", "one")
    assert candidates.find("192.0.2.77", "198.51.100.1") is None


def test_ipv6_prefixes() -> None:
    candidates = Candidates(Policy((site("six", "2001:db8::/32"),)))
    assert names(candidates, HERE, "2001:db8:1::1") == ("six",)
    assert candidates.find(HERE, "2001:db9::1") is None
    assert candidates.find(HERE, "32.1.13.184") is None


def test_the_proposals_of_all_candidates_are_acceptable_at_first() -> None:
    one, other = proposal("aes128gcm16-prfsha256-x25519"), proposal("aes256-sha256-prfsha256-modp2048")
    candidates = Candidates(
        Policy((site("a", proposals=(one,)), site("b", proposals=(one, other), fragmentation=False)))
    )
    found = candidates.find(HERE, "198.51.100.1")
    assert found is not None
    assert found.proposals == (one, other)
    assert found.fragmentation
    assert not found.encapsulate


def test_what_is_remembered_is_bounded() -> None:
    candidates = Candidates(Policy((site("anyone"),)))
    for number in range(MEMO_LIMIT + 10):
        assert candidates.find(HERE, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}") is candidates.find(
            HERE, "198.51.100.1"
        )
    assert len(candidates._found) <= MEMO_LIMIT
