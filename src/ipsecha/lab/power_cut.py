"""The power is cut: both members die at once, and come back with what they have saved."""

from __future__ import annotations

import os
import signal
import time

from ipsecha.gateway.control import ControlError
from ipsecha.lab import failover
from ipsecha.lab.capture import Packet
from ipsecha.lab.failover import ACTIVE, RETURN_S, Fault, Outcome, Scene, Tell, Verdict
from ipsecha.lab.member import Member
from ipsecha.lab.processes import LabError
from ipsecha.model.numbers import ExchangeType

DARK_S = 1.0
STEADY_S = 3.0
"""For so long after the return child SAs are rekeyed: their inbound gap is as wide as what had been saved ahead."""

_BEGINNINGS = (ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH)


def strike(members: tuple[Member, Member]) -> float:
    """Both at once."""
    at = time.monotonic()
    for member in members:
        os.kill(member.pid, signal.SIGKILL)
    for member in members:
        member.kill()  # waits for its end
    return at


def play(scene: Scene, fault: Fault, tell: Tell, *, steady_s: float = 1.0, patience_s: float = 20.0) -> Outcome:
    """One power cut from beginning to end.  Raises LabError where it does not even get to the fault."""
    outcome, active, standby, begin = failover.begin(scene, fault, tell, steady_s)
    active.wait_for("its saved state", lambda member: saved(member) == "complete")
    standby.wait_for("its marker", lambda member: saved(member) == "marker")
    fault_at = scene.strike(fault, active)
    tell("fault: both members are dead")
    time.sleep(DARK_S)
    for member in scene.members:
        member.start()
    tell("both have been started again")
    outcome.taken_over_s = _watch(scene, fault_at, patience_s, tell)
    owner = next((member for member in scene.members if member.role() == ACTIVE), active)
    outcome.owner_after, outcome.epoch_after = failover.owner(scene.members), failover.epoch_of(owner)
    time.sleep(max(steady_s, STEADY_S))
    outcome.spis_after = failover.spis(owner)
    before_playback = failover.packets(scene)
    outcome.played_back = scene.play_back(failover.old_inbound(scene, before_playback, fault_at))
    outcome.returned_s = _protected(owner, fault_at, tell)
    time.sleep(steady_s / 2)
    scene.probes.settle()
    outcome.a, outcome.b = scene.probes.reports(fault_at, begin)
    failover.read_wire(outcome, scene, before_playback, fault_at)
    outcome.verdicts = _judge(outcome, scene, before_playback, fault_at)
    return outcome


def saved(member: Member) -> str:
    cluster = member.status().cluster
    return cluster.saved if cluster is not None else ""


def _watch(scene: Scene, fault_at: float, patience_s: float, tell: Tell) -> float | None:
    """Until probes are answered both ways; when a member was owner."""
    roles: dict[str, str] = {}
    owned_s = None
    while time.monotonic() - fault_at < patience_s:
        for member in scene.members:
            role = member.role()
            if roles.get(member.name) != role:
                roles[member.name] = role
                tell(f"{member.name} is {role}")
            if role == ACTIVE and owned_s is None:
                owned_s = time.monotonic() - fault_at
        reports = scene.probes.reports(fault_at, fault_at)
        if owned_s is not None and all(report.recovered_s is not None for report in reports):
            return owned_s
        time.sleep(0.02)
    tell(f"no answers both ways within {patience_s:g} s")
    return owned_s


def _protected(owner: Member, fault_at: float, tell: Tell) -> float | None:
    deadline = time.monotonic() + RETURN_S
    while time.monotonic() < deadline:
        try:
            if failover.protection(owner) == failover.PROTECTED:
                tell("the SAs are protected again")
                return time.monotonic() - fault_at
        except (ControlError, LabError, OSError):
            pass
        time.sleep(0.05)
    return None


def _judge(outcome: Outcome, scene: Scene, wire: list[Packet], fault_at: float) -> list[Verdict]:
    later = outcome.epoch_after > outcome.epoch_before
    found = [
        Verdict(
            "one member owns the tunnel again, in a later epoch",
            outcome.owner_after in (member.name for member in scene.members) and later,
            f"{outcome.owner_before}, epoch {outcome.epoch_before}; then {outcome.owner_after}, {outcome.epoch_after}",
        ),
        *failover.flow_verdicts(outcome),
        Verdict(
            "the other one backs it up again",
            outcome.returned_s is not None,
            f"after {outcome.returned_s:.1f} s" if outcome.returned_s is not None else "it does not",
        ),
    ]
    if scene.wire is None:
        return found
    begun = sum(packet.at >= fault_at and packet.exchange in _BEGINNINGS for packet in wire)
    rekeyed = sum(packet.at >= fault_at and packet.exchange == ExchangeType.CREATE_CHILD_SA for packet in wire)
    text = f"{begun} messages of a handshake, {rekeyed} of rekeys"
    return [*found, Verdict("the IKE SA is the same", begun == 0, text), *failover.number_verdicts(wire)]
