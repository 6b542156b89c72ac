"""A member that comes back: nothing is rekeyed for it, and nobody waits while the snapshot is on its way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("bench", reason="bench/ lies beside the package: run pytest from the repository")

from bench import clients
from bench.pairs import HEARTBEAT_S, Half, Halves, child_spi

from ipsecha.cluster.commit_log import BackupState
from ipsecha.gateway.core import Gateway
from ipsecha.model.effects import Effect, Transmit
from ipsecha.model.records import Address, IkeSa

COUNT, NEW = 4000, 8


@pytest.fixture
def halves() -> Iterator[Halves]:
    """The second member has taken over from the first, and the first comes back as a new process."""
    pair = Halves(COUNT)
    pair.lose_one()
    pair.take_over()
    pair.until(lambda: (pair.two.gateway.endpoint.next_timer() or 0.0) > pair.two.gateway.clock.now())
    yield pair
    pair.close()


def come_back(halves: Halves) -> None:
    fresh, other = Half(halves.loop, 0), halves.two
    halves.one = fresh
    other.frames.deliver, fresh.frames.deliver = fresh.side.frame_received, other.side.frame_received
    other.beats.deliver = lambda data: fresh.side.beat_received("lan", data)
    fresh.beats.deliver = lambda data: other.side.beat_received("lan", data)
    fresh.start()
    other.side.channel_up()
    fresh.side.channel_up()


def until_in_sync(halves: Halves) -> None:
    halves.until(lambda: halves.one.side.member.in_sync and not halves.two.side.member.log.outstanding)


def lasting(half: Half) -> dict[bytes, tuple[object, ...]]:
    """What a rekey, or any exchange, would change."""

    def of(sa: IkeSa) -> tuple[object, ...]:
        children = [(child.spi_in, child.spi_out, child.keys, child.rekey_at) for child in sa.children]
        return sa.keys, sa.rekey_at, sa.next_request_id, sa.expected_request_id, sa.exchange, sa.queue, children

    return {spi: of(sa) for spi, sa in half.gateway.endpoint.sas.items()}


class Door:
    """A gateway as the clients see it: datagrams go in, and come out when their output commit allows it."""

    def __init__(self, halves: Halves, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        self._halves, self._gateway = halves, gateway
        self._sent: list[Effect] = []
        self.joining = 0  # datagrams sent while the backup was joining
        monkeypatch.setattr(gateway.plane, "send_ike", self._send)

    def _send(self, datagram: bytes, local: Address, remote: Address) -> None:
        self._sent.append(Transmit((datagram,), local, remote))
        self.joining += self._halves.two.side.member.log.backup is BackupState.JOINING

    def receive(self, data: bytes, local: Address, remote: Address, now: float) -> None:
        self._gateway.on_ike(data, local, remote)

    def take_effects(self) -> list[Effect]:
        self._halves.turn()
        self._halves.until(lambda: self._gateway.is_settled)
        sent, self._sent = self._sent, []
        return sent


def test_a_member_that_comes_back_rekeys_nothing(halves: Halves) -> None:
    before = lasting(halves.two)
    come_back(halves)
    until_in_sync(halves)
    assert lasting(halves.two) == before
    assert lasting(halves.one) == before
    assert not halves.one.gateway.endpoint.active


def test_handshakes_and_packets_go_on_while_a_snapshot_is_under_way(
    halves: Halves, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = halves.two.gateway
    door = Door(halves, owner, monkeypatch)
    come_back(halves)
    halves.until(lambda: halves.two.side.member.log.backup is BackupState.JOINING)
    for number in range(NEW):
        owner.plane.inject("inner", clients.inner_packet(number), ("", 0), ("", 0))
        traffic = owner.plane.traffic(child_spi(number))
        assert traffic is not None
        assert traffic.packets_out == 1, "the packet waits"
    new = clients.handshakes(door, NEW, lambda effects: None, first=COUNT)  # type: ignore[arg-type]
    assert new.handshakes == NEW
    assert door.joining == 2 * NEW, "the snapshot was over before the handshakes were"
    until_in_sync(halves)
    assert len(halves.one.gateway.endpoint.sas) == COUNT + NEW
    assert lasting(halves.one) == lasting(halves.two)


@pytest.mark.slow
def test_the_measurement_of_a_join_has_peers_that_call_and_heartbeats() -> None:
    """All that have begun are answered, and the backup has what they have made, too."""
    pair = Halves(COUNT, 2, 200, HEARTBEAT_S, calls_per_s=200.0)
    try:
        calls = pair.callers
        assert 0 < pair.completed <= pair.begun
        assert calls.completed == calls.begun >= pair.begun
        assert calls.longest_s > 0
        assert len(pair.two.gateway.endpoint.sas) == len(pair.one.gateway.endpoint.sas) == COUNT + calls.begun
        window = pair.joining_from, pair.joining_until
        for half in (pair.one, pair.two):
            assert half.beating.longest_gap(*window) < window[1] - window[0], "no heartbeat meanwhile"
    finally:
        pair.close()
