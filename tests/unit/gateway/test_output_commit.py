"""Output commit: what waits for whom, and what is left of it when another member owns the SAs."""

from __future__ import annotations

from typing import Any

from ipsecha.gateway.output_commit import INITIATION, Changes, OutputCommit
from ipsecha.model.effects import (
    Effect,
    InstallChild,
    Keepalive,
    RemoveChild,
    Replicate,
    ReplicateInitiation,
    Report,
    Share,
    Transmit,
    Withdraw,
)

ADDRESS = ("192.0.2.1", 500)
REQUEST = Transmit((b"request",), ADDRESS, ADDRESS)
STATELESS = Transmit((b"cookie",), ADDRESS, ADDRESS, stateless=True)
REPORT = Report("event", "text")
KEEPALIVE = Keepalive(ADDRESS, ADDRESS)


class Ring:
    def __init__(self) -> None:
        self.commits: list[Changes] = []
        self.done: list[Effect] = []
        self.output = OutputCommit(self._commit, self.done.extend)

    def _commit(self, changes: Changes) -> int:
        self.commits.append(changes)
        return len(self.commits)


def test_what_depends_on_a_change_waits_for_it_in_order() -> None:
    ring = Ring()
    ring.output.submit([Withdraw(b"a" * 8), RemoveChild(1), REQUEST])
    ring.output.submit([Withdraw(b"b" * 8), RemoveChild(2)])
    assert ring.done == []
    ring.output.release(1)
    assert ring.done == [RemoveChild(1), REQUEST]
    ring.output.release(2)
    assert ring.done[2:] == [RemoveChild(2)]


def test_what_changes_nothing_waits_behind_what_does() -> None:
    ring = Ring()
    ring.output.submit([Withdraw(b"a" * 8)])
    ring.output.submit([REQUEST])
    assert ring.done == []
    ring.output.release(1)
    assert ring.done == [REQUEST]


def test_what_depends_on_nothing_does_not_wait() -> None:
    ring = Ring()
    ring.output.submit([Withdraw(b"a" * 8), REPORT, STATELESS, KEEPALIVE])
    assert ring.done == [REPORT, STATELESS, KEEPALIVE]


def test_a_former_owner_says_nothing_more_but_its_data_plane_follows_its_tables() -> None:
    """A child SA that the IKE core has removed, or made, must not stay behind in, or be missing from, the data plane
    of a member that may own it again one day."""
    ring = Ring()
    sa: Any = object()
    install = InstallChild(sa, sa)
    ring.output.submit([Withdraw(b"a" * 8), RemoveChild(1), REQUEST])
    ring.output.submit([install, KEEPALIVE])
    ring.done.clear()
    dropped = ring.output.give_up([Replicate(sa), RemoveChild(2), REQUEST])
    assert dropped == 1
    assert ring.done == [RemoveChild(1), install, RemoveChild(2)]
    assert ring.output.waiting == 0
    assert len(ring.commits) == 1


def test_nothing_of_a_former_ownership_is_left_for_the_next() -> None:
    ring = Ring()
    ring.output.submit([Withdraw(b"a" * 8), REQUEST])
    ring.output.give_up([])
    ring.output.submit([RemoveChild(3)])
    assert ring.done == [RemoveChild(3)]
    ring.output.release(10)
    assert ring.done == [RemoveChild(3)]


def test_a_handshake_of_ours_is_committed_like_an_ike_sa_and_one_of_a_peer_is_shared_at_once() -> None:
    """Our IKE_AUTH waits for its record; nothing waits for a half-open IKE SA of a stranger, nor does it wait."""
    ring = Ring()
    spi, record, share = b"i" * 8, b"record", Share(b"state")
    ring.output.submit([ReplicateInitiation(spi, record), share, REQUEST])
    assert ring.commits == [[(INITIATION + spi, record)]]
    assert ring.done == [share]
    ring.output.release(1)
    assert ring.done == [share, REQUEST]
    ring.output.submit([share])
    assert ring.done == [share, REQUEST, share]
    ring.output.submit([ReplicateInitiation(spi, record), ReplicateInitiation(spi, None)])
    assert ring.commits[1:] == [[(INITIATION + spi, None)]]
