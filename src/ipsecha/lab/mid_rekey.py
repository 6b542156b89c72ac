"""The owner dies between two steps of a rekey: which step, of which rekey, changes from run to run."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from enum import Enum

from ipsecha.gateway.control import ControlError
from ipsecha.lab import failover
from ipsecha.lab.capture import Packet
from ipsecha.lab.failover import Fault, Outcome, Scene, Tell, Verdict
from ipsecha.lab.member import Member
from ipsecha.lab.mortal import DIE_AT
from ipsecha.lab.processes import LabError
from ipsecha.lab.stage import CHILD, CONNECTION
from ipsecha.model.numbers import ExchangeType

STEPS = 10
"""More than a rekey has: in the last ones it is over, and the owner dies right behind it."""

DIES_WITHIN_S = 3.0
ENDS_WITHIN_S = 20.0
STEADY_S = 2.0
"""What has not changed for so long has come to its end: longer than requests are repeated after, and old SAs kept."""


class Rekey(Enum):
    OUR_CHILD = "child SA, asked for by the owner"
    PEERS_CHILD = "child SA, asked for by the peer"
    OUR_IKE = "IKE SA, asked for by the owner"
    PEERS_IKE = "IKE SA, asked for by the peer"


def case(number: int | None) -> tuple[Rekey, int]:
    """What the run of this number does: after 40 of them every step of every rekey has had its turn.  None: any."""
    number = random.randrange(len(Rekey) * STEPS) if number is None else number
    return list(Rekey)[number % len(Rekey)], number // len(Rekey) % STEPS + 1


def play(
    scene: Scene,
    fault: Fault,
    tell: Tell,
    *,
    steady_s: float = 1.0,
    patience_s: float = 20.0,
    number: int | None = None,
) -> Outcome:
    """One crash in mid-rekey from beginning to end.  Raises LabError where it does not even get to the fault."""
    rekey, step = case(number)
    outcome, active, standby, begin = failover.begin(scene, fault, tell, steady_s)
    outcome.step = f"{rekey.value}: step {step}"
    fault_at = _die_in(scene, rekey, step, active)
    tell(f"fault: {active.name} dies; {outcome.step}")
    outcome.taken_over_s = failover.watch(scene, active, standby, fault_at, patience_s, tell)
    outcome.owner_after, outcome.epoch_after = failover.owner(scene.members), failover.epoch_of(standby)
    ended = _ends(scene, standby, fault_at)
    tell(f"both sides agree on one child SA after {ended:.1f} s" if ended is not None else "the two sides disagree")
    time.sleep(steady_s)
    before_playback = failover.packets(scene)
    outcome.played_back = scene.play_back(failover.old_inbound(scene, before_playback, fault_at))
    outcome.returned_s = failover.come_back(scene, fault, active, standby, tell)
    outcome.spis_after = failover.spis(standby)
    scene.probes.settle()
    outcome.a, outcome.b = scene.probes.reports(fault_at, begin)
    failover.read_wire(outcome, scene, before_playback, fault_at)
    outcome.verdicts = _judge(outcome, scene, before_playback, fault_at, ended)
    return outcome


def _die_in(scene: Scene, rekey: Rekey, step: int, active: Member) -> float:
    """Begin the rekey and wait for the owner's death; kill it where the rekey has fewer steps.  Returns when."""
    (active.directory / DIE_AT).write_text(str(step))
    os.kill(active.pid, signal.SIGUSR1)
    asking = threading.Thread(target=_ask, args=(scene, rekey, active), daemon=True)
    asking.start()
    deadline = time.monotonic() + DIES_WITHIN_S
    while active.running and time.monotonic() < deadline:
        time.sleep(0.001)
    at = time.monotonic()
    if active.running:
        active.kill()
    return at


def _ask(scene: Scene, rekey: Rekey, active: Member) -> None:
    """The operator's command may not live to see its answer."""
    try:
        if rekey in (Rekey.OUR_CHILD, Rekey.OUR_IKE):
            active.rekey(CONNECTION, CHILD if rekey is Rekey.OUR_CHILD else "")
        elif rekey is Rekey.PEERS_CHILD:
            scene.peer_rekeys(CHILD)
        else:
            scene.peer_rekeys("")
    except (ControlError, LabError, OSError):
        return


def _ends(scene: Scene, survivor: Member, fault_at: float) -> float | None:
    """How long until one IKE SA with one child SA is left, the same at both ends, for good; None: too long."""
    since: float | None = None
    while (now := time.monotonic()) - fault_at < ENDS_WITHIN_S:
        if not _agree(scene, survivor):
            since = None
        elif since is None:
            since = now
        elif now - since > STEADY_S:
            return since - fault_at
        time.sleep(0.05)
    return None


def _agree(scene: Scene, survivor: Member) -> bool:
    """An IKE SA that was replaced may linger: the peer forgets it with its answer to our DELETE, which may be lost."""
    try:
        standing = [sa for sa in survivor.sas() if sa.state == "established"]
        ours = [(child.spi_out, child.spi_in) for sa in standing for child in sa.children]
        return len(standing) == len(ours) == 1 and scene.peer_spis() == ours
    except (ControlError, OSError):
        return False


def _judge(
    outcome: Outcome, scene: Scene, packets: list[Packet], fault_at: float, ended: float | None
) -> list[Verdict]:
    again = (ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH)
    anew = sum(packet.at >= fault_at and packet.exchange in again for packet in packets)
    verdicts = [
        failover.owner_verdict(outcome),
        *failover.flow_verdicts(outcome),
        Verdict(
            "the rekey comes to an end: one child SA, the same at both ends",
            ended is not None,
            f"after {ended:.1f} s" if ended is not None else f"not within {ENDS_WITHIN_S:g} s",
        ),
        failover.return_verdict(outcome),
    ]
    if scene.wire is not None:
        verdicts.append(Verdict("the tunnel is not set up anew", anew == 0, f"{anew} IKE_SA_INIT or IKE_AUTH messages"))
        verdicts += failover.number_verdicts(packets)
    return verdicts
