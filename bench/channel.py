"""What the synch channel carries: for each event of an SA's life, and for each second of traffic.

It is to carry events, not packets: a second of 20,000 packets should cost hardly more than a second of ten.  Frames
and octets are those of both members, acknowledgements included, before TLS (22 octets a record) and TCP.  The pulses
with which the members see that the channel works come on top, at a rate that nothing changes; they stand alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import sites
from bench.figures import Context, Figure, Goal, Topic
from ipsecha.cluster.epoch import first_term, make_epoch
from ipsecha.cluster.frames import Pulse, encode_frame
from ipsecha.lab import network, stage
from ipsecha.lab.failover import wait_for_pair
from ipsecha.lab.member import Member
from ipsecha.lab.namespaces import Namespace
from ipsecha.lab.processes import start
from ipsecha.lab.stage import CHILD, CONNECTION, Tunnel
from ipsecha.lab.strongswan import StrongSwan

RATES = (10, 1000, 20_000)
REPEATS, QUICK_REPEATS = 10, 3
SECONDS, QUICK_SECONDS = 5.0, 2.0
DPD_S = 4.0
QUIET_S = 0.3
PULSE_OCTETS = len(encode_frame(Pulse(make_epoch(first_term(time.time()), 0)))) + 4
GENERATOR = Path(__file__).with_name("generator.py")
PYTHON = "python3"
FLAT = 2.0
"""What passes for "the same" from 1,000 to 20,000 packets per second."""


class Load(NamedTuple):
    """On the synch channel, both ways."""

    frames: float
    octets: float

    def __sub__(self, other: Load) -> Load:
        return Load(self.frames - other.frames, self.octets - other.octets)

    def share(self, parts: float) -> Load:
        return Load(self.frames / parts, self.octets / parts)


class Scene(NamedTuple):
    """A pair with a real strongSwan as its peer."""

    active: Member
    peer: StrongSwan
    tunnel: Tunnel
    hosts: tuple[Namespace, Namespace]
    directory: Path

    def load(self) -> Load:
        counters = self.active.status().counters
        frames, octets = (
            sum(counters.get(f"channel-{what}-{way}", 0) for way in ("in", "out")) for what in ("frames", "bytes")
        )
        pulses = self.pulses(counters)
        return Load(frames - pulses, octets - pulses * PULSE_OCTETS)

    @staticmethod
    def pulses(counters: dict[str, int]) -> int:
        return counters.get("cluster-pulses-in", 0) + counters.get("cluster-pulses-out", 0)

    def settled(self) -> Load:
        """The load once the channel has been quiet for a moment."""
        before = self.load()
        while True:
            time.sleep(QUIET_S)
            now = self.load()
            if now == before:
                return now
            before = now

    def cost(self, action: Callable[[], None]) -> Load:
        before = self.settled()
        action()
        return self.settled() - before


@contextmanager
def _scene(directory: Path) -> Iterator[Scene]:
    options = {"dpd": "off"}
    tunnel = Tunnel(gateway_address=network.CLUSTER_OUTER, ike=sites.IKE, esp=sites.ESP, gateway_options=options)
    with network.standing(members=2) as topology:
        members = stage.pair(topology, directory / "pair", tunnel)
        with members[0], members[1], StrongSwan(topology["peer"], directory / "peer", sites.SILENT) as peer:
            stage.configure_strongswan(peer, tunnel)
            active, _ = wait_for_pair(members)
            yield Scene(active, peer, tunnel, (topology["hosta"], topology["hostb"]), directory)


def _events(scene: Scene, repeats: int, step: Callable[[str], None]) -> list[Figure]:
    totals: dict[str, Load] = {}

    def add(name: str, action: Callable[[], None]) -> None:
        cost, before = scene.cost(action), totals.get(name, Load(0, 0))
        totals[name] = Load(cost.frames + before.frames, cost.octets + before.octets)

    for number in range(repeats):
        step(f"events, {number + 1} of {repeats}")
        add("handshake with a child SA", lambda: scene.peer.initiate(CHILD))
        add("rekey of a child SA", lambda: scene.peer.rekey_child(CHILD))
        add("rekey of an IKE SA", lambda: scene.peer.rekey_ike(CONNECTION))
        add("deletion of an IKE SA", lambda: scene.peer.terminate_ike(CONNECTION))
    return [figure for name, total in totals.items() for figure in _pair(name, total.share(repeats), "")]


def _pair(name: str, load: Load, per: str) -> list[Figure]:
    return [Figure(name, load.frames, f"frames{per}"), Figure(name, load.octets, f"B{per}")]


def _liveness(scene: Scene) -> list[Figure]:
    """The peer asks every second whether we live."""
    stage.configure_strongswan(scene.peer, _with_dpd(scene.tunnel))
    scene.peer.initiate(CHILD)
    before, first = scene.settled(), _requests(scene.active)
    time.sleep(DPD_S)
    checks, load = _requests(scene.active) - first, scene.load() - before
    scene.peer.terminate_ike(CONNECTION)
    stage.configure_strongswan(scene.peer, scene.tunnel)
    return _pair("liveness check (DPD)", load.share(max(1, checks)), "")


def _with_dpd(tunnel: Tunnel) -> Tunnel:
    return Tunnel(
        gateway_address=tunnel.gateway_address, ike=tunnel.ike, esp=tunnel.esp, peer_options={"dpd_delay": "1s"}
    )


def _requests(member: Member) -> int:
    return sum(sa.expected_request_id for sa in member.sas())


def _traffic(scene: Scene, seconds: float, step: Callable[[str], None]) -> list[Figure]:
    scene.peer.initiate(CHILD)
    figures: list[Figure] = []
    ways = (("outbound", scene.hosts[0], network.HOST_B), ("inbound", scene.hosts[1], network.HOST_A))
    for way, sender, target in ways:
        before: tuple[str, float] | None = None
        for rate in RATES:
            step(f"{rate:,} packets per second {way}")
            load, reached = _second_of(scene, sender, target, rate, seconds)
            name = f"{rate:,} packets/s {way}"
            frames, octets = _pair(name, load, "/s")
            octets.note = f"{name}: {reached:,.0f} reached the gateway"
            if before is not None and rate == RATES[-1]:
                frames.reference, frames.reference_value = before
                frames.goal = Goal(FLAT)
            before = name, frames.value
            figures += [frames, octets]
    return figures


def _second_of(scene: Scene, sender: Namespace, target: str, rate: int, seconds: float) -> tuple[Load, float]:
    """The load of one second and the packets that the gateway has taken in it, after a second to get going."""
    argv = sender.command([PYTHON, str(GENERATOR), target, str(rate), str(seconds + 2)])
    process = start(argv, scene.directory / "generator.log")
    time.sleep(1.0)
    before, packets, began = scene.load(), _packets(scene.active), time.monotonic()
    time.sleep(seconds)
    load, passed = scene.load() - before, time.monotonic() - began
    reached = (_packets(scene.active) - packets) / passed
    process.wait()
    return load.share(passed), reached


def _packets(member: Member) -> int:
    status = member.status()
    return status.packets_in + status.packets_out


def _idle(scene: Scene, seconds: float) -> list[Figure]:
    before, began = scene.pulses(scene.active.status().counters), time.monotonic()
    time.sleep(seconds)
    rate = (scene.pulses(scene.active.status().counters) - before) / (time.monotonic() - began)
    return _pair("pulses", Load(rate, rate * PULSE_OCTETS), "/s")


def run(context: Context) -> list[Figure]:
    repeats, seconds = context.count(REPEATS, QUICK_REPEATS), context.count(SECONDS, QUICK_SECONDS)
    with _scene(context.directory) as scene:
        figures = _idle(scene, seconds) + _events(scene, repeats, context.step)
        context.step("liveness checks")
        figures += _liveness(scene)
        return figures + _traffic(scene, seconds, context.step)


def _steps(quick: bool) -> int:
    return (QUICK_REPEATS if quick else REPEATS) + 1 + 2 * len(RATES)


TOPIC = Topic("channel", "the synch channel (both directions)", run, _steps, sites.missing)
