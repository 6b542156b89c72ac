"""What becomes of IKE SAs whose last updates died with their owner (RFC 6027 section 3.6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ike_agreement import check_at_rest, live
from ike_lost import LazyBackup, unknown_to, without_sync
from ike_pair import LEFT_IP, RIGHT_IP, Packet, Pair, Side, left_connection, right_connection
from ike_steps import Steps, types
from ipsecha.ike import repair as repair_core
from ipsecha.ike.flags import CHANGING, IN_DOUBT, OPEN
from ipsecha.ike.repair import PROBES
from ipsecha.model.numbers import ExchangeType, Notify, Payload
from ipsecha.model.records import ExchangeKind
from ipsecha.wire.payloads.notify import build_notify

REPAIRED_S = 2.0


def open_pair(cluster: str, *, sync: bool = False, **more: object) -> tuple[Pair, Side, Side, LazyBackup]:
    """An established pair of which one side is a cluster; ``(pair, cluster, peer, backup)``."""
    pair = Pair(left_connection(**more), right_connection(**more))
    pair.establish()
    if not sync:
        without_sync(pair)
    side, peer = pair.sides if cluster == "left" else reversed(pair.sides)
    return pair, side, peer, LazyBackup(pair, side)


def traffic(pair: Pair, side: Side, peer: Side) -> None:
    """ESP of the peer's that the cluster does not know, as its data plane would tell."""
    for spi in unknown_to(side, peer):
        side.endpoint.unknown_spi(spi, peer.sa.local, pair.now)
    pair.run()


def repair(pair: Pair, side: Side, peer: Side) -> None:
    """Two seconds, with traffic in them."""
    end = pair.now + REPAIRED_S
    while pair.now < end:
        pair.advance(0.1)
        traffic(pair, side, peer)


def check_working(side: Side, peer: Side, *, heard: bool = False) -> None:
    """Both hold one IKE SA, and each sends on child SAs that the other knows; ``heard``: the peer has sent a request
    meanwhile, so that its message IDs are known, too."""
    assert live(side).keys() == live(peer).keys()
    (sa,), (other,) = live(side).values(), live(peer).values()
    assert sa.next_request_id == other.expected_request_id
    assert sa.expected_request_id == other.next_request_id or (sa.flags & IN_DOUBT and not heard)
    assert not sa.flags & (OPEN | CHANGING)
    for one, two in ((sa, other), (other, sa)):
        sending = [child for child in one.children if child.use_outbound]
        assert sending
        known = {child.spi_in for child in two.children}
        assert {child.spi_out for child in sending} <= known
    assert not side.endpoint.suspects


def rekey_children(side: Side, now: float) -> None:
    for spi in [child.spi_in for child in side.sa.children]:
        side.endpoint.rekey_child(spi, now)


def delete_children(side: Side, now: float) -> None:
    for spi in [child.spi_in for child in side.sa.children]:
        side.endpoint.terminate(now, spi_in=spi)


def check_liveness(side: Side, now: float) -> None:
    side.endpoint.check_liveness(side.sa.local_spi, now)


def new_child(side: Side, now: float) -> None:
    side.endpoint.initiate("site", "net", now)


ACTS: list[Callable[[Side, float], None]] = [rekey_children, check_liveness, new_child]


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("cluster", ["left", "right"])
@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
@pytest.mark.parametrize("act", ACTS)
def test_whatever_was_lost_the_sa_works_again(
    act: Callable[[Side, float], None], times: int, ours: bool, cluster: str, sync: bool
) -> None:
    """Exchanges that nobody remembers, begun by either side: within two seconds both agree, without a new IKE SA."""
    pair, side, peer, backup = open_pair(cluster, sync=sync)
    before = set(live(peer))
    backup.lose()
    for _ in range(times):
        act(side if ours else peer, pair.now)
        pair.run()
    backup.take_over()
    repair(pair, side, peer)
    assert set(live(peer)) == before
    check_working(side, peer)
    check_liveness(peer, pair.now)
    pair.advance(200.0)
    check_working(side, peer, heard=True)
    check_at_rest(side)


def lose_sa(peer: Side) -> None:
    """The peer has forgotten everything about the IKE SA."""
    for sa in peer.sas:
        peer.endpoint.remove_sa(sa)
    peer.endpoint.end_step()
    peer.endpoint.timers.clear()


@pytest.mark.parametrize("remote", [(), None])
def test_a_doomed_sa_is_replaced(remote: tuple[str, ...] | None) -> None:
    """Also where the policy does not start the connection, and does not know the peer's address: the SA did."""
    more: dict[str, object] = {} if remote is None else {"remote": remote}
    pair = Pair(left_connection(), right_connection(**more))
    pair.establish()
    without_sync(pair)
    side, peer = pair.right, pair.left
    backup = LazyBackup(pair, side)
    before = set(live(side))
    backup.lose()
    lose_sa(peer)
    backup.take_over()
    pair.advance(REPAIRED_S)
    assert "doomed" in side.events
    assert "replaced" in side.events
    check_working(side, peer)
    assert set(live(side)).isdisjoint(before)
    pair.advance(400.0)
    check_working(side, peer)
    assert "peer-dead" not in side.events


def test_many_doomed_sas_are_replaced_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage that dooms thousands makes no storm of handshakes, and each waits for its turn."""
    monkeypatch.setattr(repair_core, "REPLACEMENTS", 0)
    pair = Pair(left_connection(), right_connection())
    pair.establish()
    without_sync(pair)
    side, peer = pair.right, pair.left
    backup = LazyBackup(pair, side)
    backup.lose()
    lose_sa(peer)
    backup.take_over()
    pair.advance(REPAIRED_S)
    assert "doomed" not in side.events
    assert not side.endpoint.initiations
    monkeypatch.setattr(repair_core, "REPLACEMENTS", 1)
    pair.advance(REPAIRED_S)
    assert "replaced" in side.events
    check_working(side, peer)


def test_a_peer_that_cannot_be_reached_for_a_moment_keeps_its_sa() -> None:
    pair, side, peer, backup = open_pair("right")
    before = set(live(side))
    backup.lose()
    pair.network = lambda packet: []
    backup.take_over()
    pair.advance(3.0)
    pair.queue.clear()
    pair.network = lambda packet: [] if packet.exchange == ExchangeType.IKE_SA_INIT else [packet]
    pair.advance(60.0)
    assert set(live(side)) == before
    check_working(side, peer)
    assert not side.endpoint.initiations


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
@pytest.mark.parametrize("delay", [0.3, 0.7, 1.2])
def test_answers_that_are_merely_late(lost: int, delay: float) -> None:
    """Every probe is answered in the end; no message ID is used twice, none skipped."""
    pair, side, peer, backup = open_pair("right")
    backup.lose()
    for _ in range(lost):
        check_liveness(side, pair.now)
        pair.run()
    backup.take_over()
    under_way: list[tuple[float, Packet]] = []
    pair.network = lambda packet: under_way.append((pair.now + delay / 2, packet)) or []  # type: ignore[func-returns-value]
    end = pair.now + 8.0
    while pair.now < end:
        pair.now += 0.05
        while under_way and under_way[0][0] <= pair.now:
            pair.deliver(under_way.pop(0)[1])
        for one in pair.sides:
            one.endpoint.handle_timer(pair.now)
        pair.gather()
    pair.network = lambda packet: [packet]
    pair.queue += [packet for _, packet in under_way]
    pair.advance(5.0)
    check_working(side, peer)


@pytest.mark.parametrize("loses", range(2 * PROBES))
def test_any_one_packet_of_the_repair_may_be_lost(loses: int) -> None:
    pair, side, peer, backup = open_pair("right")
    backup.lose()
    for _ in range(2):
        check_liveness(side, pair.now)
        pair.run()
    count = 0

    def network(packet: Packet) -> list[Packet]:
        nonlocal count
        count += 1
        return [] if count == loses + 1 else [packet]

    pair.network = network
    before = set(live(peer))
    backup.take_over()
    pair.advance(REPAIRED_S + 1)
    assert set(live(peer)) == before
    check_working(side, peer)


@pytest.mark.parametrize("cluster", ["left", "right"])
@pytest.mark.parametrize("act", [delete_children, check_liveness, rekey_children])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_request_in_flight_that_the_peer_has_never_had_is_repeated_until_it_has(
    act: Callable[[Side, float], None], cluster: str, lost: int
) -> None:
    """Its message ID is the one that the peer expects: no probe above it would be taken."""
    pair, side, peer, backup = open_pair(cluster)
    pair.network = lambda packet: []
    act(side, pair.now)
    pair.gather()
    pair.queue.clear()
    backup.lose()
    count = 0

    def network(packet: Packet) -> list[Packet]:
        nonlocal count
        count += packet.destination == peer.sa.local
        return [] if packet.destination == peer.sa.local and count <= lost else [packet]

    pair.network = network
    before = set(live(peer))
    backup.take_over()
    assert side.sa.exchange is not None
    pair.advance(REPAIRED_S + 1)
    assert set(live(peer)) == before
    check_working(side, peer)


def test_the_next_owner_may_die_in_the_middle_of_the_repair() -> None:
    pair, side, peer, backup = open_pair("right")
    before = set(live(peer))
    backup.lose()
    for _ in range(4):
        check_liveness(side, pair.now)
        pair.run()
    backup.take_over()
    for _ in range(4):
        pair.advance(0.2)
        pair.queue.clear()
        backup.take_over()
    pair.advance(REPAIRED_S)
    assert set(live(peer)) == before
    check_working(side, peer)


def requests_of(steps: Steps, count: int) -> list[Packet]:
    """Requests of the peer that are answered one after the other; the cluster has forgotten them."""
    packets: list[Packet] = []
    for _ in range(count):
        (request,) = steps.do(lambda: check_liveness(steps.a, steps.now))
        packets.append(request)
        (response,) = steps.deliver(request)
        steps.deliver(response)
    return packets


def suspect(steps: Steps, count: int) -> list[Packet]:
    """The cluster (``b``) loses ``count`` requests of the peer's."""
    without_sync(steps.pair)
    backup = LazyBackup(steps.pair, steps.b)
    backup.lose()
    packets = requests_of(steps, count)
    backup.take_over()
    for packet in steps.take():
        for answer in steps.deliver(packet):
            steps.deliver(answer)
    return packets


def test_a_request_that_is_ahead_is_evidence() -> None:
    steps = Steps()
    suspect(steps, 3)
    (request,) = steps.do(lambda: check_liveness(steps.a, steps.now))
    (response,) = steps.deliver(request)
    assert steps.open(response) == []
    steps.deliver(response)
    assert steps.b.sa.expected_request_id == steps.a.sa.next_request_id
    assert "lost-requests" in steps.b.events


def test_old_requests_played_back_go_forward_only_and_lock_nobody_out() -> None:
    """Each of the lost requests may be had executed once more, never twice, and the peer's next one is taken."""
    steps = Steps()
    old = suspect(steps, 3)
    assert steps.deliver(old[1])
    assert not steps.deliver(old[0]), "never backwards"
    answers = [steps.deliver(old[1]), steps.deliver(old[1])]
    assert answers[0] == answers[1]
    (request,) = steps.do(lambda: check_liveness(steps.a, steps.now))
    (response,) = steps.deliver(request)
    steps.deliver(response)
    assert steps.a.sa.exchange is None
    assert not steps.deliver(old[2])


def test_no_evidence_is_taken_on_an_sa_that_is_not_in_doubt() -> None:
    """RFC 7296 section 2.3: a request beyond the window is not taken."""
    steps = Steps()
    without_sync(steps.pair)
    steps.b.sa.expected_request_id -= 1
    (request,) = steps.do(lambda: check_liveness(steps.a, steps.now))
    assert steps.deliver(request) == []
    assert steps.b.endpoint.counters["message-id-out-of-window"] == 1


def test_what_is_not_authentic_is_no_evidence() -> None:
    steps = Steps()
    suspect(steps, 2)
    (request,) = steps.do(lambda: check_liveness(steps.a, steps.now))
    forged = request._replace(data=request.data[:-1] + bytes((request.data[-1] ^ 1,)))
    before = steps.b.sa.expected_request_id
    assert steps.deliver(forged) == []
    assert steps.b.sa.expected_request_id == before


def test_nothing_is_sent_on_a_suspect_before_it_is_repaired() -> None:
    pair, side, peer, backup = open_pair("right")
    backup.lose()
    new_child(side, pair.now)
    pair.run()
    pair.sent.clear()
    backup.take_over()
    new_child(side, pair.now)
    pair.gather()
    (probe,) = pair.sent
    assert side.sa.exchange is not None
    assert side.sa.exchange.kind == ExchangeKind.PROBE
    repair(pair, side, peer)
    assert probe.message_id + 1 in [packet.message_id for packet in pair.sent if packet.source == probe.source]
    check_working(side, peer)


def test_an_sa_that_was_only_spoken_on_is_probed_and_its_children_stay() -> None:
    pair, side, _, backup = open_pair("right")
    spis = set(side.installed)
    backup.lose(OPEN)
    pair.sent.clear()
    backup.take_over()
    pair.advance(REPAIRED_S)
    assert len(pair.sent) == 2
    assert set(side.installed) == spis


def test_sas_that_were_not_open_are_left_alone() -> None:
    pair, _, _, backup = open_pair("right")
    backup.lose(0)
    pair.sent.clear()
    backup.take_over()
    pair.advance(REPAIRED_S)
    assert pair.sent == []


def test_invalid_spi_inside_the_ike_sa_replaces_the_child_sa() -> None:
    """RFC 7296 section 1.5: the peer has no child SA for our packets."""
    steps = Steps()
    steps.pass_time(2.0)
    child = steps.b.sa.children[0]
    data = build_notify(Notify.INVALID_SPI, child.spi_out.to_bytes(4, "big"))
    packets = steps.deliver(steps.forge(steps.a, ExchangeType.INFORMATIONAL, [(Payload.NOTIFY, data)]))
    steps.a.sa.children = ()
    steps.a.endpoint.child_index.clear()
    steps.a.installed.clear()
    steps.pair.queue += packets
    steps.pair.run()
    assert steps.b.sa.children[0].spi_in != child.spi_in
    steps.finish()


def test_a_child_sa_that_is_too_young_to_be_missed_stays() -> None:
    steps = Steps()
    child = steps.b.sa.children[0]
    data = build_notify(Notify.INVALID_SPI, child.spi_out.to_bytes(4, "big"))
    steps.deliver(steps.forge(steps.a, ExchangeType.INFORMATIONAL, [(Payload.NOTIFY, data)]))
    assert steps.b.sa.children == (child,)


def test_unknown_spis_from_strangers_cost_nothing() -> None:
    """I7: of peers whose SAs are not in doubt none is heeded; of the others a few a second."""
    steps = Steps()
    assert steps.do(lambda: steps.b.endpoint.unknown_spi(0x1234567, (LEFT_IP, 0), steps.now)) == []
    suspect(steps, 0)
    assert steps.do(lambda: steps.b.endpoint.unknown_spi(0x1234567, ("203.0.113.9", 0), steps.now)) == []
    for spi in range(0x1000000, 0x1000800):
        steps.do(lambda spi=spi: steps.b.endpoint.unknown_spi(spi, (LEFT_IP, 0), steps.now))  # type: ignore[misc]
    assert 0 < steps.b.endpoint.counters["orphans-deleted"] <= 30
    assert steps.b.endpoint.counters["esp-unknown-spi"] == 2049


def test_an_unprotected_complaint_is_only_a_hint() -> None:
    """RFC 7296 section 2.4: such a message leads to a liveness check, at a limited rate, and to nothing else."""
    steps = Steps()
    (request,) = steps.do(lambda: check_liveness(steps.b, steps.now))
    complaint = Packet(
        request.data[:16]
        + bytes((Payload.NOTIFY, 0x20, ExchangeType.INFORMATIONAL, 0x28))
        + request.data[20:24]
        + (36).to_bytes(4, "big")
        + bytes((0, 0, 0, 8, 0, 0, 0, Notify.INVALID_IKE_SPI)),
        (LEFT_IP, 500),
        (RIGHT_IP, 500),
    )
    assert steps.deliver(complaint) == []
    assert len(steps.b.sas) == 1
    (response,) = steps.deliver(request)
    steps.deliver(response)
    (check,) = steps.deliver(complaint)
    assert types(steps.open(check)) == []
    for _ in range(100):
        assert steps.deliver(complaint) == []
