"""A backup joins while thousands of child SAs carry packets: they pass to leases one after the other, and whatever the
backup is not told before it is in sync, nobody uses (I2, I3)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pytest

from esp_pair import Side, child_sa, selectors, sequence_number, udp
from ipsecha.ipsec.switching import LOOKED_PER_PART
from ipsecha.model.leases import LANE, Leasing
from ipsecha.model.records import ChildSa, LeaseEntry

COUNT, PART = 20, 4
FIRST = 0x1001
ALL = range(FIRST, FIRST + COUNT)


class Owner(Side):
    """Alone, with child SAs in use; ``told``: what a backup that joins knows, by inbound SPI."""

    def __init__(self, mode: Leasing = Leasing.FREE, count: int = COUNT) -> None:
        super().__init__(mode=mode)
        self.sad.part = self.sad.settled_part = PART
        for spi_in in range(FIRST, FIRST + count):
            self.install(child_sa(spi_in, spi_in + 0x1000, remote_ts=selectors(f"10.2.{spi_in - FIRST}.0/24")))
        self.told: dict[int, tuple[int, int]] = {}

    def child(self, spi_in: int) -> ChildSa:
        found = self.sad.installed(spi_in)
        assert found is not None
        return found[1]

    def use(self, spi_in: int, count: int = 1) -> list[int]:
        """Send by one SA: the numbers that were used."""
        return [sequence_number(one) for one in self.send(*[udp(dst=f"10.2.{spi_in - FIRST}.5")] * count)]

    def tell_records(self) -> None:
        for spi_in in ALL:
            self.sad.share(spi_in)
            self.told[spi_in] = self.child(spi_in).in_ceiling, self.child(spi_in).out_ceiling

    def tell(self, entries: list[LeaseEntry]) -> None:
        for entry in entries:
            inbound, outbound = self.told[entry.spi_in]
            self.told[entry.spi_in] = max(inbound, entry.in_ceiling), max(outbound, entry.out_ceiling)

    def known(self, spi_in: int) -> int:
        return self.told[spi_in][1]


@pytest.fixture
def owner() -> Owner:
    """All child SAs are in use, and have gone beyond what the joiner's records say."""
    owner = Owner()
    owner.tell_records()
    for spi_in in ALL:
        owner.use(spi_in, 300)
    return owner


def parts_of(owner: Owner) -> Iterator[list[LeaseEntry]]:
    """Each told when it is made, as the channel's order has it."""
    for entries in owner.sad.lease_in_parts(owner.sad.spd.walk()):
        owner.tell(entries)
        yield entries


def test_a_part_is_small_and_all_of_them_tell_everything(owner: Owner) -> None:
    parts = list(parts_of(owner))
    assert max(map(len, parts)) <= PART
    assert sorted(entry.spi_in for entry in chain.from_iterable(parts)) == list(ALL)
    for spi_in in ALL:
        assert owner.sad.lives[spi_in].next_out - 1 <= owner.known(spi_in)


def test_what_stood_in_the_records_is_not_told_again() -> None:
    owner = Owner()
    for spi_in in ALL:
        owner.use(spi_in, 300)
    owner.tell_records()
    owner.use(FIRST, 500)
    assert [entry.spi_in for entry in chain.from_iterable(parts_of(owner))] == [FIRST]


def test_what_has_been_told_needs_no_acknowledgement_and_more_does(owner: Owner) -> None:
    list(parts_of(owner))
    number = owner.sad.lives[FIRST].next_out
    room = owner.known(FIRST) - number + 1
    assert owner.use(FIRST, room + 10) == list(range(number, number + room))
    assert owner.sad.held == 10
    (entry,) = owner.sad.lease_requests(owner.now)
    sent, _ = owner.grant([entry])
    assert len(sent) == 10


def test_between_two_parts_everything_that_is_used_will_be_told(owner: Owner) -> None:
    """Of SAs that were switched, of those that still wait, and of one that comes into use."""
    owner.install(child_sa(FIRST + COUNT, 0x9000, remote_ts=selectors("10.2.99.0/24")))
    owner.told[FIRST + COUNT] = owner.child(FIRST + COUNT).in_ceiling, owner.child(FIRST + COUNT).out_ceiling
    for _ in parts_of(owner):
        for spi_in in ALL:
            owner.use(spi_in, 40)
        owner.send(*[udp(dst="10.2.99.5")] * 100)
    for spi_in, live in owner.sad.lives.items():
        assert live.next_out - 1 <= owner.known(spi_in), f"{spi_in:#x}"


def test_an_sa_that_needs_more_is_switched_before_its_turn(owner: Owner) -> None:
    next(parts_of(owner))
    waiting = next(iter(owner.sad._behind))
    before = owner.child(waiting).out_ceiling
    owner.use(waiting, 5000)
    assert waiting not in owner.sad._behind
    assert owner.child(waiting).out_ceiling == before, "it has granted itself numbers"


def test_a_join_that_breaks_off_leaves_everybody_free(owner: Owner) -> None:
    parts = owner.sad.lease_in_parts(owner.sad.spd.walk())
    next(parts)
    next(parts)
    owner.sad.set_leasing(Leasing.FREE)
    for spi_in in ALL:
        assert len(owner.use(spi_in, 2000)) == 2000
    owner.tell_records()
    assert not list(parts_of(owner)) or not owner.sad._unshared
    for spi_in in ALL:
        assert owner.sad.lives[spi_in].next_out - 1 <= owner.known(spi_in)


# The beginning of a join


def in_its_lane() -> Owner:
    owner = Owner(Leasing.LEASED)
    for spi_in in ALL:
        owner.use(spi_in)
    owner.sad.set_leasing(Leasing.LANE)
    owner.sad.set_leasing(Leasing.FREE, 4, gradually=True)
    return owner


def test_who_is_behind_stays_in_its_lane_until_it_needs_more() -> None:
    owner = in_its_lane()
    assert len(owner.sad._behind) == COUNT
    assert owner.use(FIRST) == [2]
    used = owner.use(FIRST, 400)
    beyond = [number for number in used if number > 256]
    assert beyond[0] == 256 + 4 * LANE + 1, "beyond what the rival knew, not above its lane"
    assert FIRST not in owner.sad._behind


def test_records_that_are_shared_say_that_the_lanes_are_skipped() -> None:
    owner = in_its_lane()
    owner.tell_records()
    assert not owner.sad._behind
    assert {owner.known(spi_in) for spi_in in ALL} == {256 + 4 * LANE}
    assert list(parts_of(owner))[-1] == []


def test_without_records_the_end_of_the_join_skips_them() -> None:
    """A mirror gets a seat: it has all records already."""
    owner = in_its_lane()
    owner.told = dict.fromkeys(ALL, (16, 256))
    list(parts_of(owner))
    assert {owner.known(spi_in) for spi_in in ALL} == {256 + 4 * LANE}


def test_who_ceases_to_be_the_owner_leaves_the_lanes_skipped() -> None:
    owner = in_its_lane()
    owner.sad.deactivate()
    owner.sad.activate(7, 0)
    assert {owner.use(spi_in)[0] for spi_in in ALL} == {256 + 4 * LANE + 1}


def test_held_packets_do_not_wait_for_their_turn() -> None:
    """A backup that was in sync joins anew: it will grant nothing of what it was asked for."""
    owner = Owner(Leasing.LEASED)
    owner.use(FIRST, 300)
    (live,) = owner.sad.set_leasing(Leasing.FREE, gradually=True)
    assert sum(len(run.datagrams) for run in owner.outbound.release(live, owner.now)) == 44


def test_nobody_is_behind_where_nothing_changes() -> None:
    owner = Owner()
    for spi_in in ALL:
        owner.use(spi_in)
    assert owner.sad.set_leasing(Leasing.FREE, gradually=True) == []
    assert not owner.sad._behind


@pytest.mark.parametrize("modes", [(Leasing.LANE, Leasing.FREE), (Leasing.FREE,)])
def test_ceilings_that_nobody_acknowledged_are_told_in_the_end(modes: tuple[Leasing, ...]) -> None:
    """A backup that was a mirror has heard of them.  As the next owner it uses numbers up to there, inbound too, and
    this member, as its backup, has to know (I3)."""
    owner = Owner(Leasing.LEASED)
    owner.use(FIRST, 200)
    assert owner.sad.may_deliver(owner.sad.lives[FIRST], 12, owner.now), "nothing has to wait"
    (heard,) = owner.sad.lease_requests(owner.now)
    assert (heard.in_ceiling, heard.out_ceiling) > (16, 256)
    for mode in modes:
        owner.sad.set_leasing(mode, gradually=mode is Leasing.FREE)
    owner.told = dict.fromkeys(ALL, (16, 256))
    list(parts_of(owner))
    child = owner.child(FIRST)
    assert (child.in_ceiling, child.out_ceiling) >= (heard.in_ceiling, heard.out_ceiling)
    assert owner.told[FIRST] == (child.in_ceiling, child.out_ceiling)


def test_what_was_given_back_is_not_asked_for_again() -> None:
    owner = Owner(Leasing.LEASED)
    owner.use(FIRST)
    live = owner.sad.lives[FIRST]
    owner.sad.may_deliver(live, 5000, owner.now)
    owner.acknowledge()
    assert owner.sad.may_deliver(live, 5000, owner.now)
    high = live.child.in_ceiling
    owner.now += 10.0
    live.window.accept(5000)
    owner.sad.review(owner.now)
    (entry,) = owner.sad.lease_requests(owner.now)
    assert entry.lowers
    owner.sad.set_leasing(Leasing.FREE, gradually=True)
    list(owner.sad.lease_in_parts(owner.sad.spd.walk()))
    assert live.child.in_ceiling == entry.in_ceiling < high


def test_a_former_owners_sas_leave_the_records_of_the_present_one_alone() -> None:
    """Owner, backup, owner again as planned: what was asked for long ago has been given back since."""
    owner = Owner(Leasing.LEASED)
    owner.use(FIRST)
    live, child = owner.sad.lives[FIRST], owner.child(FIRST)
    assert not owner.sad.may_deliver(live, 5000, owner.now)
    owner.acknowledge()
    owner.sad.set_leasing(Leasing.FREE)
    list(owner.sad.lease_in_parts(owner.sad.spd.walk()))
    owner.sad.deactivate()
    owner.sad.apply_leases([LeaseEntry(FIRST, 6000, child.out_ceiling), LeaseEntry(FIRST, 5010, 0, lowers=True)])
    owner.sad.adopt_exact([LeaseEntry(FIRST, 5005, 7)])
    owner.sad.set_leasing(Leasing.LEASED)
    assert child.in_ceiling == 5010
    owner.sad.activate(7, 0)
    assert owner.use(FIRST) == [8], "the exact counters count for who has owned before, too"
    assert owner.sad.lives[FIRST].floor == 5005


def test_what_was_given_back_unheard_is_asked_for_again_by_who_owns_again() -> None:
    """The switchover falls into the round trip: the next owner has the lower ceiling, and is our backup one day."""
    owner = Owner(Leasing.LEASED)
    owner.use(FIRST)
    live, child = owner.sad.lives[FIRST], owner.child(FIRST)
    owner.sad.may_deliver(live, 5000, owner.now)
    owner.acknowledge()
    high = child.in_ceiling
    live.window.accept(5000)
    owner.now += 10.0
    owner.sad.review(owner.now)
    (entry,) = owner.sad.lease_requests(owner.now)
    assert entry.lowers
    owner.sad.deactivate()
    assert child.in_ceiling == high, "in doubt, the other one has not heard"
    owner.sad.grant([entry])
    owner.sad.adopt_exact([LeaseEntry(FIRST, 5000, 1)])
    owner.sad.set_leasing(Leasing.LEASED)
    owner.sad.activate(7, 0)
    again = owner.sad.adopt(FIRST)
    assert again is not None
    assert not owner.sad.may_deliver(again, 5001, owner.now), "the backup may know a lower ceiling"
    (asked,) = owner.sad.lease_requests(owner.now)
    assert asked.in_ceiling >= high


# SAs that nobody has used


@pytest.mark.parametrize("shared", [0, COUNT // 2, COUNT])
def test_after_a_takeover_above_the_lanes_the_backup_hears_of_every_sa(shared: int) -> None:
    owner = Owner()
    owner.sad.deactivate()
    owner.sad.activate(5, 4)
    owner.told = dict.fromkeys(ALL, (16, 256))
    for spi_in in ALL[:shared]:
        owner.sad.share(spi_in)
        owner.told[spi_in] = 16, owner.child(spi_in).out_ceiling
    entries: list[int] = []
    for number, part in enumerate(parts_of(owner)):
        assert len(part) <= PART
        entries += [entry.spi_in for entry in part]
        if number < COUNT:
            owner.use(ALL[number])  # some have been settled by now, others not
    assert len(set(entries)) == COUNT - shared
    for spi_in in ALL:
        assert owner.known(spi_in) >= 256 + 4 * LANE
        live = owner.sad.lives.get(spi_in)
        assert live is None or live.next_out - 1 <= owner.known(spi_in)
        assert owner.use(spi_in) == [] or owner.sad.lives[spi_in].next_out - 1 <= owner.known(spi_in)


def test_a_walk_past_sas_that_are_settled_is_short() -> None:
    owner = Owner(count=COUNT)
    owner.sad.deactivate()
    owner.sad.activate(5, 4)
    owner.tell_records()
    parts = list(parts_of(owner))
    assert not any(parts)
    assert len(parts) <= 2 + COUNT // LOOKED_PER_PART + len(owner.sad._settled._shards)


def test_a_child_sa_made_beside_a_backup_in_sync_begins_with_its_first_number() -> None:
    """No rival of before can have made it: the lanes that were skipped because of him are none of its business, and
    its record, which both members have, says where both count from."""
    side = Side()
    side.sad.activate(2, 13)
    assert list(side.sad.lease_in_parts(side.sad.spd.walk())) == []
    side.install(child_sa(0x1001, 0x2002))
    assert side.sad.lease_requests(side.now) == []
    (datagram,) = side.send(udp())
    assert sequence_number(datagram) == 1


def test_a_backup_that_joins_hears_where_child_sas_begin_that_were_made_without_one() -> None:
    side = Side()
    side.sad.activate(2, 13)
    side.install(child_sa(0x1001, 0x2002))
    (told,) = chain.from_iterable(side.sad.lease_in_parts(side.sad.spd.walk()))
    assert told.out_ceiling == 256 + 13 * LANE
    side.sad.set_leasing(Leasing.LANE)
    (datagram,) = side.send(udp())
    assert told.out_ceiling < sequence_number(datagram) <= told.out_ceiling + LANE


def test_a_child_sa_of_an_exchange_that_a_rival_may_have_finished_begins_above_the_lanes() -> None:
    """Whoever finishes it: its request was under way while both went on, and is when one has become the backup."""
    owner, backup = Side(), Side()
    backup.sad.deactivate()
    owner.sad.activate(2, 13)
    told = list(chain.from_iterable(owner.sad.lease_in_parts(iter((0x1001,)))))
    assert [entry.spi_in for entry in told] == [0x1001]
    backup.sad.apply_leases(told)
    backup.sad.activate(3, 1)
    for side, lanes in ((owner, 13), (backup, 14)):
        side.sad.set_leasing(Leasing.LANE)
        side.install(child_sa(0x1001, 0x2002))
        (datagram,) = side.send(udp())
        assert sequence_number(datagram) > 256 + lanes * LANE
    assert sequence_number(owner.send(udp())[0]) < sequence_number(backup.send(udp())[0]) - LANE // 2
