"""What becomes of IKE SAs whose last updates died with their owner (RFC 6027 section 3.6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ike_agreement import check_at_rest, live
from ike_lost import LazyBackup, unknown_to, without_sync
from ike_pair import Pair, Side, left_connection, right_connection
from ipsecha.ike.flags import CHANGING, IN_DOUBT, OPEN

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
