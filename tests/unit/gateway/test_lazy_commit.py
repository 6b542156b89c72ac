"""Lazy output commit: what leaves at once, what still waits, and what the backup knows about it."""

from __future__ import annotations

from ike_pair import Pair
from ipsecha.gateway.lazy_commit import LAG_COMMITS, LAG_S, QUIET_S, LazyCommit
from ipsecha.gateway.output_commit import INITIATION, Changes
from ipsecha.ike.flags import CHANGING, CLOSING, OPEN
from ipsecha.model.effects import (
    Effect,
    InstallChild,
    RemoveChild,
    Replicate,
    ReplicateInitiation,
    Report,
    Transmit,
    UpdateChild,
    Withdraw,
)
from ipsecha.model.records import Exchange, ExchangeKind, IkeSa, decode_record

ADDRESS = ("192.0.2.1", 500)


def message(text: bytes) -> Transmit:
    return Transmit((text,), ADDRESS, ADDRESS)


class Ring:
    def __init__(self) -> None:
        pair = Pair()
        pair.establish()
        self.sas: list[IkeSa] = [pair.left.sa, pair.right.sa]
        self.sas[1].next_request_id = 1  # something has been said on it
        self.now = 100.0
        self.commits: list[Changes] = []
        self.done: list[Effect] = []
        self.suspects: set[bytes] = set()
        self.output = LazyCommit(self._commit, self.done.extend, lambda: self.now, self.suspects.__contains__)

    def _commit(self, changes: Changes) -> int:
        self.commits.append(changes)
        return len(self.commits)

    def acknowledge(self) -> None:
        self.output.release(len(self.commits))

    def step(self, *dependent: Effect, sa: int = 0) -> bool:
        """One step of an SA; whether what depends on it was carried out at once."""
        before = len(self.done)
        self.output.submit([Replicate(self.sas[sa]), *dependent])
        return self.done[before:] == list(dependent)

    def known(self, sa: int = 0) -> int:
        """The marks in the last record of an SA that was committed."""
        spi = self.sas[sa].local_spi
        octets = [record for changes in self.commits for key, record in changes if key == spi][-1]
        assert octets is not None
        return decode_record(octets).flags & (OPEN | CHANGING)


def test_the_first_step_waits_and_opens_the_sa_and_what_follows_leaves_at_once() -> None:
    ring = Ring()
    assert not ring.step(message(b"1"))
    assert ring.known() == OPEN
    assert not ring.step(message(b"2"))
    assert ring.done == []
    ring.acknowledge()
    assert ring.done == [message(b"1"), message(b"2")]
    assert ring.step(message(b"3"))
    assert len(ring.commits) == 3
    assert ring.output.waiting == 1
    assert ring.output.open_sas == 1


def test_each_sa_is_opened_by_itself_also_within_one_turn() -> None:
    ring = Ring()
    ring.step(message(b"1"))
    ring.acknowledge()
    ring.done.clear()
    ring.output.submit([Replicate(ring.sas[1]), message(b"new"), Replicate(ring.sas[0]), message(b"open")])
    assert ring.done == [message(b"open")]
    assert len(ring.commits[-1]) == 2, "what changes in one turn travels together"
    ring.acknowledge()
    assert ring.done == [message(b"open"), message(b"new")]


def test_child_sas_are_opened_separately() -> None:
    ring = Ring()
    remove = RemoveChild(ring.sas[0].children[0].spi_in)
    ring.step(message(b"1"))
    ring.acknowledge()
    assert not ring.step(remove, message(b"2"))
    assert ring.known() == OPEN | CHANGING
    assert not ring.step(message(b"3")), "nothing overtakes a step that waits"
    ring.acknowledge()
    assert ring.step(remove, message(b"4"))
    ring.sas[0].exchange = Exchange(ExchangeKind.DELETE_CHILD, 3, (b"",), 0.0)
    assert ring.step(message(b"5"))


def test_no_child_sa_is_used_before_the_backup_knows_it() -> None:
    """I2 and I3: the next owner may make the same one, with the same keys, of a repeated answer."""
    ring = Ring()
    install = InstallChild(ring.sas[0], ring.sas[0].children[0])
    for _ in range(2):
        assert not ring.step(install, message(b"1"))
        ring.acknowledge()


def test_our_requests_for_child_sas_count_as_changes() -> None:
    ring = Ring()
    ring.step(message(b"1"))
    ring.acknowledge()
    ring.sas[0].exchange = Exchange(ExchangeKind.NEW_CHILD, 3, (b"",), 0.0)
    assert not ring.step(message(b"2"))
    assert ring.known() == OPEN | CHANGING


def test_births_rekeys_and_ends_of_ike_sas_always_wait() -> None:
    ring = Ring()
    ring.step(message(b"1"))
    ring.acknowledge()
    ring.output.submit([Withdraw(ring.sas[0].local_spi), message(b"gone")])
    assert ring.done[1:] == []
    ring.acknowledge()
    assert not ring.step(message(b"born again"))
    ring.acknowledge()
    sa = ring.sas[0]
    sa.exchange = Exchange(ExchangeKind.REKEY_IKE, 3, (b"",), 0.0)
    assert not ring.step(message(b"rekey"))
    sa.exchange = None
    ring.acknowledge()
    ring.step(message(b"2"))
    ring.acknowledge()
    sa.flags |= CLOSING
    assert not ring.step(message(b"delete"))


def test_the_record_of_a_rekey_says_that_nothing_is_missing() -> None:
    """All that has left before it has its record before it, and nothing leaves behind it unknown.  The next owner only
    has to repeat the request: were it to ask for new message IDs (RFC 6311) instead, it would give up a request of
    which the peer may have made an IKE SA."""
    ring = Ring()
    sa = ring.sas[0]
    ring.step(message(b"1"))
    ring.acknowledge()
    assert ring.step(RemoveChild(sa.children[0].spi_in)) is False
    ring.acknowledge()
    assert ring.known() == OPEN | CHANGING
    sa.exchange = Exchange(ExchangeKind.REKEY_IKE, 3, (b"",), 0.0)
    assert not ring.step(message(b"rekey"))
    assert ring.known() == 0
    ring.acknowledge()
    sa.exchange = None
    assert not ring.step(message(b"after a refusal"))
    assert ring.known() == OPEN
    ring.suspects.add(sa.local_spi)
    sa.exchange = Exchange(ExchangeKind.REKEY_IKE, 5, (b"",), 0.0)
    ring.step(message(b"rekey"))
    assert ring.known() == OPEN, "what another owner has done is not known yet"


def test_a_new_ike_sa_of_the_peers_is_not_open() -> None:
    """Its first answer waits: when the owner dies before it, the peer has no such SA to ask about."""
    ring = Ring()
    ring.sas[1].next_request_id = 0
    assert not ring.step(message(b"answer"), sa=1)
    assert ring.known(1) == 0
    ring.acknowledge()
    ring.sas[1].expected_request_id += 1
    assert not ring.step(message(b"answer"), sa=1)
    assert ring.known(1) == OPEN


def test_handshakes_of_ours_always_wait() -> None:
    ring = Ring()
    ring.output.submit([ReplicateInitiation(b"i" * 8, b"record"), message(b"1")])
    assert ring.commits == [[(INITIATION + b"i" * 8, b"record")]]
    assert ring.done == []
    ring.acknowledge()
    assert ring.done == [message(b"1")]


def test_an_sa_is_closed_when_it_has_been_quiet() -> None:
    ring = Ring()
    ring.step(message(b"1"))
    ring.acknowledge()
    ring.now += QUIET_S - 1
    ring.step(message(b"2"))
    for _ in range(3):
        ring.now += 2
        ring.output.handle_timer()
    assert ring.known() == OPEN
    assert 0 < ring.output.next_timer() <= QUIET_S
    ring.now += QUIET_S
    ring.output.handle_timer()
    assert ring.known() == 0
    assert ring.output.open_sas == 0
    assert not ring.step(message(b"3")), "closed is closed"
    assert ring.known() == OPEN


def test_a_suspect_stays_open_until_it_is_repaired() -> None:
    ring = Ring()
    ring.suspects.add(ring.sas[0].local_spi)
    ring.step(message(b"1"))
    ring.now += QUIET_S + 1
    ring.output.handle_timer()
    assert ring.known() == OPEN
    ring.suspects.clear()
    ring.now += QUIET_S + 1
    ring.output.handle_timer()
    assert ring.known() == 0


def test_a_channel_that_lags_makes_everything_wait() -> None:
    ring = Ring()
    ring.step(message(b"1"))
    ring.acknowledge()
    for _ in range(LAG_COMMITS):
        assert ring.step(message(b"2"))
    assert not ring.step(message(b"3"))
    ring.acknowledge()
    assert ring.step(message(b"4"))
    ring.now += LAG_S
    assert not ring.step(message(b"5"))
    assert ring.output.lag == (2, LAG_S)
    ring.acknowledge()
    assert ring.output.lag == (0, 0.0)


def test_what_belongs_to_no_change_stays_behind_what_waits() -> None:
    ring = Ring()
    ring.step(message(b"1"))
    ring.output.submit([message(b"again"), Report("event", "text")])
    assert ring.done == [Report("event", "text")]
    ring.acknowledge()
    assert ring.done[1:] == [message(b"1"), message(b"again")]
    ring.step(message(b"2"))
    ring.output.submit([message(b"again")])
    assert ring.done[3:] == [message(b"2"), message(b"again")]


def test_a_former_owner_forgets_what_was_open() -> None:
    """Another owner has records without marks, or its own: the first step waits again."""
    ring = Ring()
    ring.step(message(b"1"))
    ring.acknowledge()
    update = UpdateChild(ring.sas[0], ring.sas[0].children[0])
    ring.sas[1].flags = 0
    ring.step(update, sa=1)
    ring.done.clear()
    assert ring.output.give_up([]) == 1
    assert ring.done == [update]
    assert ring.output.open_sas == 0
    assert not ring.step(message(b"2"))
