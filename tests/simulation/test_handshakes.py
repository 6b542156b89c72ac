"""Handshakes in whole worlds: their owner dies in the middle of them, or strangers pretend to begin them (I7)."""

from __future__ import annotations

import pytest

from ike_pair import Entropy
from ipsecha.cluster import frames
from ipsecha.ike import sharing
from ipsecha.model.policy import IkeLimits, Policy
from sharing_budget import BudgetError, SharingBudget
from simulation import boundaries
from simulation.gateways import CLUSTER, LIMITS, MemberNode
from simulation.network import Datagram
from simulation.record import IKE_AUTH, IKE_SA_INIT, RESPONSE
from simulation.variants_handshakes import HANDSHAKES
from simulation.world import Variant, World

PER_S = LIMITS.shared_half_open_per_s
UP_S = 6.0
FLOOD = 900


def _ike(datagram: Datagram) -> bytes:
    """The IKE message in a datagram; empty where it is none."""
    port, data = datagram.source[1], datagram.data
    if port == 4500:
        return data[4:] if data[:4] == bytes(4) else b""
    return data if port == 500 else b""


def _world(seed: int, variant: Variant | None = None, peers: int = 0) -> World:
    """A world of this seed or a later one: its peers stay where they are."""
    world = World(seed, variant, peers)
    while any(site.roams for site in world.sites):
        seed += 100
        world = World(seed, variant, peers)
    return world


def _pair_in_sync(world: World) -> tuple[MemberNode, MemberNode]:
    """The owner and its backup, before any peer has called."""
    for member in world.members:
        member.start()
    while not any(node.member.in_sync for node in world.members):
        world.run(0.05)
    backup = next(node for node in world.members if node.member.in_sync)
    return world.members[1 - backup.index], backup


def _established(world: World) -> bool:
    return all(any(sa.children for sa in peer.endpoint.sas.values()) for peer in world.peers)


@pytest.mark.parametrize("seed", range(24))
def test_a_death_between_init_and_auth(seed: int) -> None:
    """Each peer has its answer to IKE_SA_INIT, the owner dies, and the IKE_AUTH request of that very handshake succeeds
    at its successor."""
    world = _world(seed)
    for site in world.sites:
        site.initiates, site.both_start, site.roams = True, False, False
    owner, backup = _pair_in_sync(world)
    carry, lost = world.network.carry, [True]

    def without_ike_auth(datagram: Datagram) -> None:
        message = _ike(datagram)
        if not (lost[0] and message and message[18] == IKE_AUTH and datagram.destination[0] == CLUSTER):
            carry(datagram)

    world.network.carry = without_ike_auth  # type: ignore[method-assign]
    for peer in world.peers:
        peer.start()
    world.run(0.3)
    assert len(backup.endpoint.held_half_opens) == len(world.peers)
    owner.process.kill()
    world.run(0.5)
    lost[0] = False
    world.run(UP_S)
    assert _established(world)
    assert backup.endpoint.counters["half-open-continued"] == len(world.peers)
    assert all(len(world.record.initiations[peer.site.address]) == 1 for peer in world.peers)
    assert not world.timeline.failures


@pytest.mark.slow
@pytest.mark.parametrize("story", HANDSHAKES)
def test_a_member_dies_at_every_boundary_of_a_handshake(story: str) -> None:
    """Both roles: whoever owns afterwards has the SAs that the peer has."""
    for seed in range(8):
        boundaries.replayed(boundaries.draw(seed, ("crash",), (story,), stride=1, relay=0))


# Floods


class Stranger:
    """Sends sound IKE_SA_INIT requests that it has seen others send, under SPIs of its own, and returns no cookie; from
    addresses that are not its own."""

    def __init__(self, world: World, request: Datagram) -> None:
        self._world = world
        self._request = request
        self._entropy = Entropy(f"{world.seed}/stranger")

    def flood(self, count: int, seconds: float) -> None:
        for _ in range(count):
            data = self._entropy(8) + self._request.data[8:]
            self._world.network.carry(self._request._replace(data=data))
            self._world.run(seconds / count)


def _watch(world: World, budget: SharingBudget, commits: list[bytes]) -> None:
    """All that goes over the synch channel: half-open IKE SAs against the budget, and records."""
    tap = world.synch.tap

    def watched(sender: int, receiver: int, data: bytes) -> None:
        frame = frames.decode_frame(data)
        if isinstance(frame, frames.HalfOpen):
            budget.sent(len(frame.state), world.time)
        elif isinstance(frame, frames.Commit):
            commits.append(data)
        tap(sender, receiver, data)

    world.synch.tap = watched


def _flooded(seed: int, variant: Variant | None = None) -> tuple[World, SharingBudget, list[bytes]]:
    world = _world(seed, variant, peers=1)
    budget, commits = SharingBudget(PER_S), list[bytes]()
    _watch(world, budget, commits)
    seen: list[Datagram] = []
    send = world.network.send

    def noted(host: object, datagram: Datagram) -> None:
        message = _ike(datagram)
        if message and message[18] == IKE_SA_INIT and not message[19] & RESPONSE and datagram.destination[0] == CLUSTER:
            seen.append(datagram)
        send(host, datagram)  # type: ignore[arg-type]

    world.network.send = noted  # type: ignore[method-assign]
    world.sites[0].initiates, world.sites[0].both_start, world.sites[0].roams = True, False, False
    for field in ("child_rekey_s", "ike_rekey_s", "dpd_s"):
        setattr(world.sites[0], field, 36000.0)
    _pair_in_sync(world)
    world.peers[0].start()
    while not _established(world):
        world.run(0.1)
    world.run(0.5)
    commits.clear()
    Stranger(world, seen[0]).flood(FLOOD, 3.0)
    return world, budget, commits


@pytest.mark.parametrize("seed", range(4))
def test_a_flood_leaves_the_synch_channel_alone(seed: int) -> None:
    """Frames and octets stay within the budget, and they end when cookies are demanded; the established SA is there
    before and after, also behind a takeover."""
    world, budget, commits = _flooded(seed)
    owner = next(node for node in world.members if node.serves)
    backup = world.members[1 - owner.index]
    assert budget.count <= PER_S
    assert owner.endpoint.counters["cookie-demanded"] > FLOOD // 2
    count = budget.count
    assert not commits, "no record has changed"
    (spi,) = owner.endpoint.sas
    world.inner_packets(3)
    world.run(0.1)
    owner.process.kill()
    world.run(1.0)
    assert list(backup.endpoint.sas) == [spi]
    assert budget.count == count
    for _ in range(40):
        world.inner_packets()
        world.run(0.05)
    assert all(world.time - when < 1.0 for when in world.last_delivery(world.sites[0]))
    assert not world.timeline.failures


class _NoBudget(sharing.Sharing):
    def allows(self, *arguments: object) -> bool:
        return True


def _unlimited(node: MemberNode) -> None:
    """Whatever strangers begin is shared, and no cookie is demanded."""
    endpoint, limits = node.endpoint, IkeLimits(cookie_threshold=5000)
    endpoint.policy = Policy(endpoint.policy.connections, limits=limits)
    endpoint.sharing = _NoBudget(limits)


def test_a_cluster_without_the_budget_is_found_out() -> None:
    with pytest.raises(BudgetError):
        _flooded(0, Variant("half-open-without-budget", prepare=_unlimited))
