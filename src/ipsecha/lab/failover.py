"""One failover, played and judged: what the tunnel felt, what was on the wire, and whether it was as it must be.

A ``Scene`` (see ``ipsecha.lab.scenes``) is a running pair of members, a peer, inner hosts and, with namespaces, a
capture of the outer link.  ``play`` brings the tunnel up, applies a fault, watches, plays an old capture back at the
survivor, lets the failed member return, and gives the verdicts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Protocol

import msgspec

from ipsecha.gateway.control import ControlError
from ipsecha.gateway.views import StatusView
from ipsecha.lab import capture
from ipsecha.lab.capture import Packet, Span
from ipsecha.lab.member import Member
from ipsecha.lab.probes import Probes, Report
from ipsecha.lab.processes import LabError, tail
from ipsecha.lab.witness import Witness
from ipsecha.model.numbers import ExchangeType

Tell = Callable[[str], None]
"""Takes one line of the timeline."""

ACTIVE, STANDBY = "active", "standby"
RETURN_S = 15.0
PROTECTED = "protected"
_HANDSHAKES = (ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH, ExchangeType.CREATE_CHILD_SA)


class Fault(Enum):
    KILL = "kill"  # the active member's process dies (SIGKILL)
    LINK = "link"  # all cables of the active member are pulled
    SWITCHOVER = "switchover"  # asked for: maintenance
    PARTITION = "partition"  # the members are cut off from each other, both alive; healed later
    CRASH_MID_REKEY = "crash-mid-rekey"  # the active member's process dies between two steps of a rekey
    POWER_CUT = "power-cut"  # both members die at once and come back with what they have saved
    HANG = "hang"  # the active member's process stops (SIGSTOP), and goes on later as if nothing had happened


class Scene(Protocol):
    """What is on the stage.  ``wire`` is None where nothing can be captured, ``witness`` where there is none."""

    members: tuple[Member, Member]
    probes: Probes
    wire: capture.Capture | None
    witness: Witness | None
    cluster_address: str
    directory: Path

    def bring_up(self) -> None: ...
    def strike(self, fault: Fault, active: Member) -> float: ...
    def heal(self, fault: Fault, failed: Member) -> None: ...
    def play_back(self, packets: list[Packet]) -> int: ...
    def peer_rekeys(self, child: str) -> None:
        """The peer rekeys the child SA, or with an empty name the IKE SA."""

    def peer_spis(self) -> list[tuple[str, str]]:
        """Inbound and outbound SPI of the peer's child SAs."""


class Direction(msgspec.Struct):
    """The sequence numbers of one SPI, on the wire before and after the change of owner."""

    spi: str
    outbound: bool  # from the cluster
    before: tuple[int, int] | None  # first and last
    after: tuple[int, int] | None


class Verdict(msgspec.Struct):
    claim: str
    holds: bool
    found: str


class Outcome(msgspec.Struct):
    """What one run found.  Times in seconds; ``a`` and ``b`` are the probes sent by host A and by host B."""

    fault: str
    owner_before: str = ""
    owner_after: str = ""
    epoch_before: int = 0
    epoch_after: int = 0
    spis_before: list[str] = []  # of the child SAs, as the members tell
    spis_after: list[str] = []
    taken_over_s: float | None = None  # from the fault until the survivor says that it is active
    a: Report | None = None
    b: Report | None = None
    directions: list[Direction] = []
    handshakes: int = 0  # IKE exchanges after the fault that would set up or rekey something
    played_back: int = 0
    owners_in_split: list[str] = []  # who served while the members were cut off from each other
    step: str = ""  # of the rekey in which the member died
    returned_s: float | None = None  # from its return until the failed member is a standby with all state
    verdicts: list[Verdict] = []

    @property
    def holds(self) -> bool:
        return bool(self.verdicts) and all(verdict.holds for verdict in self.verdicts)


def play(scene: Scene, fault: Fault, tell: Tell, *, steady_s: float = 1.0, patience_s: float = 20.0) -> Outcome:
    """One failover from beginning to end.  Raises LabError where it does not even get to the fault."""
    outcome, active, standby, begun = begin(scene, fault, tell, steady_s)
    fault_at = scene.strike(fault, active)
    tell(f"fault: {fault.value} of {active.name}")
    outcome.taken_over_s = watch(scene, active, standby, fault_at, patience_s, tell)
    outcome.owner_after, outcome.epoch_after = owner(scene.members), epoch_of(standby)
    outcome.spis_after = spis(standby)
    time.sleep(steady_s)
    before_playback = packets(scene)
    outcome.played_back = scene.play_back(old_inbound(scene, before_playback, fault_at))
    if outcome.played_back:
        tell(f"played {outcome.played_back} packets of before the fault back at {standby.name}")
    outcome.returned_s = come_back(scene, fault, active, standby, tell)
    time.sleep(steady_s / 2)
    scene.probes.settle()
    outcome.a, outcome.b = scene.probes.reports(fault_at, begun)
    read_wire(outcome, scene, before_playback, fault_at)
    outcome.verdicts = judge(outcome, scene, before_playback, fault_at)
    return outcome


def begin(scene: Scene, fault: Fault, tell: Tell, steady_s: float) -> tuple[Outcome, Member, Member, float]:
    """A protected pair with a tunnel under probes: the outcome so far, the owner, its backup, when the probes began."""
    outcome = Outcome(fault.value)
    active, standby = wait_for_pair(scene.members)
    tell(f"{active.name} is active, {standby.name} stands by")
    scene.bring_up()
    scene.probes.wait_until_answered()
    begun = time.monotonic()
    tell("the tunnel is up; probes every 10 ms both ways")
    standby.wait_for("protection", lambda member: protection(active) == PROTECTED)
    time.sleep(steady_s)
    outcome.owner_before, outcome.epoch_before = active.name, _epoch(active.status())
    outcome.spis_before = spis(active)
    return outcome, active, standby, begun


def wait_for_pair(members: tuple[Member, Member], timeout_s: float = 20.0) -> tuple[Member, Member]:
    """Waits until one member is active and the other stands by; returns them in this order."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        roles = [member.role() for member in members]
        if roles == [ACTIVE, STANDBY]:
            return members
        if roles == [STANDBY, ACTIVE]:
            return members[1], members[0]
        time.sleep(0.03)
    logs = "\n".join(f"--- {member.name} ({member.role()}) ---\n{tail(member.log)}" for member in members)
    raise LabError(f"the members do not become a pair\n{logs}")


def watch(
    scene: Scene, active: Member, standby: Member, fault_at: float, patience_s: float, tell: Tell
) -> float | None:
    """Tells every change of a role until probes are answered both ways again; when the survivor was active."""
    roles: dict[str, str] = {}
    taken_over_s = None
    while time.monotonic() - fault_at < patience_s:
        for member in (active, standby):
            role = member.role()
            if roles.get(member.name) != role:
                roles[member.name] = role
                tell(f"{member.name} is {role}")
            if member is standby and role == ACTIVE and taken_over_s is None:
                taken_over_s = time.monotonic() - fault_at
        reports = scene.probes.reports(fault_at, fault_at)
        if taken_over_s is not None and all(report.recovered_s is not None for report in reports):
            tell(_felt(reports))
            return taken_over_s
        time.sleep(0.02)
    tell(f"no answers both ways within {patience_s:g} s")
    return taken_over_s


def _felt(reports: tuple[Report, Report]) -> str:
    texts = []
    for name, report in zip(("A to B", "B to A"), reports, strict=True):
        assert report.recovered_s is not None
        texts.append(f"{name}: first answer after {report.recovered_s * 1000:.0f} ms")
    return ", ".join(texts)


def come_back(scene: Scene, fault: Fault, failed: Member, survivor: Member, tell: Tell) -> float | None:
    """The failed member comes back; how long it took until it stood by with all state, or None."""
    at = time.monotonic()
    scene.heal(fault, failed)
    try:
        failed.wait_for("standby", lambda member: member.role() == STANDBY)
        survivor.wait_for("protection", lambda member: protection(member) == PROTECTED)
    except LabError as error:
        tell(str(error).splitlines()[0])
        return None
    took = time.monotonic() - at
    tell(f"{failed.name} stands by again after {took:.1f} s")
    return took


def protection(member: Member) -> str:
    cluster = member.status().cluster
    return cluster.protection if cluster is not None else ""


def _epoch(status: StatusView) -> int:
    return status.cluster.epoch if status.cluster is not None else 0


def epoch_of(member: Member) -> int:
    try:
        return _epoch(member.status())
    except (ControlError, OSError):
        return 0


def spis(member: Member) -> list[str]:
    try:
        return sorted(spi for child in member.children() for spi in (child.spi_in, child.spi_out))
    except (ControlError, OSError):
        return []


def owner(members: tuple[Member, Member]) -> str:
    return " and ".join(member.name for member in members if member.role() == ACTIVE) or "nobody"


def packets(scene: Scene) -> list[Packet]:
    return scene.wire.packets() if scene.wire is not None else []


def old_inbound(scene: Scene, packets: list[Packet], fault_at: float) -> list[Packet]:
    """The last 500 ESP packets that the peer sent to the cluster before the fault."""
    esp = capture.esp(packets)
    return [packet for packet in esp if packet.at < fault_at and packet.destination == scene.cluster_address][-500:]


def read_wire(outcome: Outcome, scene: Scene, packets: list[Packet], fault_at: float) -> None:
    """Fills in what the capture knows."""
    esp = capture.esp(packets)
    before = {span.spi: span for span in capture.spans(packet for packet in esp if packet.at < fault_at)}
    after = {span.spi: span for span in capture.spans(packet for packet in esp if packet.at >= fault_at)}
    senders = {packet.spi: packet.source for packet in esp}
    outcome.directions = [
        Direction(f"{spi:08x}", senders[spi] == scene.cluster_address, _ends(before.get(spi)), _ends(after.get(spi)))
        for spi in senders
    ]
    outcome.handshakes = sum(packet.at >= fault_at and packet.exchange in _HANDSHAKES for packet in packets)


def _ends(span: Span | None) -> tuple[int, int] | None:
    return (span.first, span.last) if span is not None else None


def judge(outcome: Outcome, scene: Scene, packets: list[Packet], fault_at: float) -> list[Verdict]:
    """The verdicts on an outcome; those on the wire only where there was a capture."""
    found = [owner_verdict(outcome), *common_verdicts(outcome), return_verdict(outcome)]
    return found + (_wire_verdicts(outcome, scene, packets, fault_at) if scene.wire is not None else [])


def owner_verdict(outcome: Outcome) -> Verdict:
    return Verdict(
        "the other member owns the tunnel, in a later epoch",
        outcome.owner_after not in (outcome.owner_before, "nobody") and outcome.epoch_after > outcome.epoch_before,
        f"{outcome.owner_before}, epoch {outcome.epoch_before}; then {outcome.owner_after}, {outcome.epoch_after}",
    )


def flow_verdicts(outcome: Outcome) -> list[Verdict]:
    """What the probes felt."""
    a, b = outcome.a, outcome.b
    assert a is not None
    assert b is not None
    gap_ms = max(a.longest_gap_s, b.longest_gap_s) * 1000
    return [
        Verdict(
            "traffic flows again, both ways",
            all(report.recovered_s is not None for report in (a, b)),
            f"lost {a.lost} + {b.lost} probes of {a.sent} + {b.sent}, longest gap {gap_ms:.0f} ms",
        ),
        Verdict(
            "nothing is delivered twice",
            a.duplicates + b.duplicates == 0,
            f"{a.duplicates + b.duplicates} duplicates, {outcome.played_back} old packets played back",
        ),
    ]


def common_verdicts(outcome: Outcome) -> list[Verdict]:
    """What holds where no SA is to be replaced."""
    return [
        *flow_verdicts(outcome),
        Verdict(
            "the tunnel is the same: no SA was replaced",
            bool(outcome.spis_before) and outcome.spis_before == outcome.spis_after,
            f"SPIs {', '.join(outcome.spis_before)}; then {', '.join(outcome.spis_after) or 'none'}",
        ),
    ]


def return_verdict(outcome: Outcome) -> Verdict:
    return Verdict(
        "the failed member returns as standby",
        outcome.returned_s is not None,
        f"after {outcome.returned_s:.1f} s" if outcome.returned_s is not None else "it did not",
    )


def number_verdicts(packets: list[Packet]) -> list[Verdict]:
    """``packets``: the wire without what was played back."""
    again = capture.repeated(packets)
    text = f"{len(again)} repeated among {len(capture.esp(packets))} packets on the wire"
    return [Verdict("no sequence number is used twice", not again, text)]


def _wire_verdicts(outcome: Outcome, scene: Scene, packets: list[Packet], fault_at: float) -> list[Verdict]:
    kept = [direction for direction in outcome.directions if direction.before and direction.after]
    fresh = [direction.spi for direction in outcome.directions if not direction.before]
    ways = {direction.outbound for direction in kept}
    overlap = _overlap([packet for packet in capture.esp(packets) if packet.source == scene.cluster_address], fault_at)
    found = [
        Verdict(
            "no renegotiation on the wire",
            len(ways) == 2 and not fresh and outcome.handshakes == 0,
            f"{len(kept)} SPIs go on, {len(fresh)} are new, {outcome.handshakes} handshakes",
        ),
        *number_verdicts(packets),
    ]
    if outcome.fault != Fault.HANG.value:  # who wakes up may send within its leases: those numbers are nobody else's
        text = f"{overlap} packets of the old owner after the first of the new one"
        found.append(Verdict("one owner at a time sends", overlap == 0, text))
    return found


def _overlap(outbound: list[Packet], fault_at: float) -> int:
    """How many packets the old owner sent after the new one had begun."""
    old = {packet.mac for packet in outbound if packet.at < fault_at}
    first_new = min((packet.at for packet in outbound if packet.mac not in old), default=None)
    if first_new is None:
        return 0
    return sum(packet.at > first_new and packet.mac in old for packet in outbound)
