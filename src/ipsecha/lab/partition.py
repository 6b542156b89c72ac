"""A cut between the members, both alive, both in reach of their peers: what the tunnel felt, and who served."""

from __future__ import annotations

import time

from ipsecha.lab import failover
from ipsecha.lab.capture import Packet
from ipsecha.lab.failover import ACTIVE, STANDBY, Fault, Outcome, Scene, Tell, Verdict
from ipsecha.lab.member import Member

DECIDED_S = 4.0
"""So long after the cut everybody has decided: silence, a vote, or the end of waiting for one."""


def play(scene: Scene, fault: Fault, tell: Tell, *, steady_s: float = 1.0, patience_s: float = 20.0) -> Outcome:
    """One cut from beginning to end.  Raises LabError where it does not even get to the fault."""
    outcome, active, standby, begin = failover.begin(scene, fault, tell, steady_s)
    cut_at = scene.strike(fault, active)
    tell("the members are cut off from each other on every path; peers and hosts reach both")
    roles = _watch(scene, cut_at, tell)
    outcome.owners_in_split = sorted(name for name, role in roles.items() if role == ACTIVE)
    serving = standby if standby.name in outcome.owners_in_split else active
    outcome.epoch_after = failover.epoch_of(serving)
    before_playback = failover.packets(scene)
    outcome.played_back = scene.play_back(failover.old_inbound(scene, before_playback, cut_at))
    outcome.returned_s = _meet(scene, fault, active, tell)
    outcome.owner_after = failover.owner(scene.members)
    outcome.spis_after = failover.spis(active if active.role() == ACTIVE else standby)
    time.sleep(steady_s)
    scene.probes.settle()
    outcome.a, outcome.b = scene.probes.reports(cut_at, begin)
    wire = failover.packets(scene)
    failover.read_wire(outcome, scene, wire, cut_at)
    outcome.verdicts = _judge(outcome, scene, wire)
    return outcome


def _watch(scene: Scene, cut_at: float, tell: Tell) -> dict[str, str]:
    roles: dict[str, str] = {}
    while time.monotonic() - cut_at < DECIDED_S:
        for member in scene.members:
            role = member.role()
            if roles.get(member.name) != role:
                roles[member.name] = role
                tell(f"{member.name} is {role}")
        time.sleep(0.02)
    return roles


def _meet(scene: Scene, fault: Fault, active: Member, tell: Tell) -> float | None:
    """The cut is healed; how long until one owns and the other backs it up, or None."""
    at = time.monotonic()
    scene.heal(fault, active)
    while time.monotonic() - at < failover.RETURN_S:
        members = {member.role(): member for member in scene.members}
        if members.keys() == {ACTIVE, STANDBY} and failover.protection(members[ACTIVE]) == failover.PROTECTED:
            took = time.monotonic() - at
            tell(f"healed: {members[ACTIVE].name} owns, {members[STANDBY].name} backs it up again after {took:.1f} s")
            return took
        time.sleep(0.02)
    tell("healed, but they do not become a pair again")
    return None


def _judge(outcome: Outcome, scene: Scene, wire: list[Packet]) -> list[Verdict]:
    owners = outcome.owners_in_split
    later = outcome.epoch_after > outcome.epoch_before
    found = f"{' and '.join(owners) or 'nobody'}; epoch {outcome.epoch_before}, then {outcome.epoch_after}"
    if scene.witness is not None:
        first = Verdict("one member serves in the split, in a later epoch", len(owners) == 1 and later, found)
    else:
        first = Verdict("without a witness both members serve, in different epochs", len(owners) == 2 and later, found)
    settled = Verdict(
        "when they meet one owner remains, and the other backs it up",
        outcome.returned_s is not None,
        f"{outcome.owner_after}, after {outcome.returned_s:.1f} s" if outcome.returned_s is not None else "they do not",
    )
    ours = [packet for packet in wire if packet.source == scene.cluster_address]  # the peer's were played back
    common = [*failover.common_verdicts(outcome), settled]
    if scene.wire is not None:
        common += failover.number_verdicts(ours)
    return [first, *common]
