"""RFC 6311 sections 5.2, 8.2 and 8.3: what becomes of traffic and of child SAs around a failover."""

from __future__ import annotations

import msgspec
import pytest

from esp_pair import GCM, GCM_ESN, Side, child_policy, child_sa, connection, pair, sequence_number, udp
from ike_agreement import check_at_rest, check_same_sas
from ike_agreement import live as live_sas
from ike_lost import LazyBackup, unknown_to
from ike_pair import Pair
from ike_pair import Side as IkeSide
from ipsecha.ike.flags import MESSAGE_ID_SYNC
from ipsecha.ipsec.skip import skip_outbound
from ipsecha.model.leases import Leasing
from ipsecha.model.policy import Inbound, Policy
from ipsecha.model.proposals import ChildSuite
from sync_steps import SyncSteps, raised

TO_MEMBER, TO_PEER = 0x1001, 0x2002


def fail_over(member: Side) -> None:
    """The next owner has the same records, and nothing else."""
    member.sad.deactivate()
    member.sad.activate(9, False)


# Section 5.2


@pytest.mark.parametrize("suite", [GCM, GCM_ESN], ids=["32", "esn"])
@pytest.mark.parametrize("used", [0, 1, 200])
def test_the_member_increments_its_own_counters(suite: ChildSuite, used: int) -> None:
    """Section 5.2: "the newly active member MUST increment its own replay counter (the counter used for outgoing
    traffic), so as to prevent the case of its traffic being dropped by the peer as replay".  Nothing is estimated: it
    begins above all that its predecessor was allowed to use."""
    member, peer = pair(suite, Leasing.LEASED)
    peer.sad.set_leasing(Leasing.FREE)
    before = [0]
    for _ in range(used):
        (datagram,) = member.send(udp())
        before.append(sequence_number(datagram))
        assert peer.receive(datagram)
    live = member.sad.adopt(TO_MEMBER)
    assert live is not None
    ceiling = live.out_lease.limit
    fail_over(member)
    sent, _ = member.acknowledge()
    sent += member.send(udp())
    sent += member.acknowledge()[0]
    assert sequence_number(sent[-1]) > ceiling >= before[-1]
    assert len(peer.receive(*sent)) == len(sent) == 1


@pytest.mark.parametrize("cluster", ["left", "right"])
def test_the_member_asks_for_what_it_may_have_missed(cluster: str) -> None:
    """Section 5.2: "the cluster member estimates the number of incoming messages it might have missed" and "sends out
    an IPSEC_REPLAY_COUNTER_SYNC notification": exactly what is left of the lease, once there is traffic in it."""
    steps = SyncSteps(cluster)
    steps.fail_over()
    (child,) = steps.a.sa.children
    steps.a.endpoint.gap_traffic(child.spi_in, 1, 500, steps.now)
    steps.pair.advance(0.2)
    assert raised(steps.b) == {child.spi_out: 500}
    steps.agree()


# Section 8.2


def receiver(inbound: Inbound, delivered: int, ceiling: int) -> tuple[Side, Side]:
    """A member that has just taken over, and its peer, which has sent ``delivered`` packets; the records say that no
    number above ``ceiling`` was delivered."""
    policy = Policy((msgspec.structs.replace(connection((child_policy(),)), inbound=inbound),))
    member, peer = Side(policy), Side(first=False)
    member.install(child_sa(TO_MEMBER, TO_PEER, GCM, in_ceiling=ceiling, in_known=delivered))
    peer.install(child_sa(TO_PEER, TO_MEMBER, GCM, first=False))
    fail_over(member)
    return member, peer


def packets(peer: Side, count: int) -> list[bytes]:
    return peer.send(*[udp("10.2.0.5", "10.1.0.5")] * count)


def test_strictly_only_what_is_inside_the_safe_window() -> None:
    """Section 8.2: "Strict implementations will only accept traffic that's inside the 'safe' window"; "until the
    counters had been synchronized": what the peer sends after its jump is accepted, and all before is not."""
    member, peer = receiver(Inbound.STRICT, delivered=60, ceiling=100)
    before = packets(peer, 80)
    assert member.receive(*before) == []
    gap = member.sad.lives[TO_MEMBER].gap
    assert gap is not None
    assert skip_outbound(peer.sad, TO_PEER, gap.remaining, peer.now)
    after = packets(peer, 3)
    assert len(member.receive(*after)) == 3
    assert member.receive(*before, *after) == []


def test_what_local_policy_may_allow() -> None:
    """Section 8.2: "there is some leeway for local policy": with ``learn`` traffic in the gap is accepted, once, and
    never what the dead owner is known to have delivered."""
    member, peer = receiver(Inbound.LEARN, delivered=60, ceiling=100)
    before = packets(peer, 80)
    assert len(member.receive(*before)) == 20
    assert member.receive(*before) == []


# Section 8.3


def rekey_child(side: IkeSide, now: float) -> None:
    side.endpoint.rekey_child(side.sa.children[0].spi_in, now)


def delete_child(side: IkeSide, now: float) -> None:
    side.endpoint.terminate(now, spi_in=side.sa.children[0].spi_in)


@pytest.mark.parametrize("cluster", ["left", "right"])
@pytest.mark.parametrize("by_cluster", [True, False], ids=["by the cluster", "by the peer"])
@pytest.mark.parametrize("act", [rekey_child, delete_child])
def test_child_sas_that_only_one_side_knows(act: object, by_cluster: bool, cluster: str) -> None:
    """Section 8.3: lost messages leave "inconsistencies, such as Child SAs that exist on only one of the peers".  The
    RFC prefers "tearing down the entire IKE SA" to "a multitude of edge cases"; we repair them and keep it."""
    pair = Pair()
    pair.establish()
    side, peer = pair.sides if cluster == "left" else reversed(pair.sides)
    backup = LazyBackup(pair, side)
    before = set(live_sas(peer))
    backup.lose()
    act(side if by_cluster else peer, pair.now)  # type: ignore[operator]
    pair.run()
    backup.take_over()
    assert side.sa.flags & MESSAGE_ID_SYNC
    for _ in range(20):
        pair.advance(0.1)
        for spi in unknown_to(side, peer):  # the peer's traffic
            side.endpoint.unknown_spi(spi, peer.sa.local, pair.now)
        pair.run()
    pair.advance(200.0)
    assert set(live_sas(peer)) == before
    check_same_sas(pair)
    for one in pair.sides:
        check_at_rest(one)
        assert one.sa.children
