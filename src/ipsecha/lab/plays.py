"""Which play a fault makes: a new fault gets a line here, and in ``strike`` and ``heal`` of the scenes."""

from __future__ import annotations

from typing import Any

from ipsecha.lab import failover, mid_rekey, partition, power_cut
from ipsecha.lab.failover import Fault, Outcome, Scene, Tell

MORTAL = "ipsecha.lab.mortal"
"""What the members run for CRASH_MID_REKEY (``Member.command``)."""


def play(scene: Scene, fault: Fault, tell: Tell, *, number: int | None = None, **pauses: Any) -> Outcome:
    """One fault from beginning to end; ``number`` of the run, for faults that change from run to run.

    Raises LabError where it does not even get to the fault.
    """
    if fault is Fault.PARTITION:
        return partition.play(scene, fault, tell, **pauses)
    if fault is Fault.POWER_CUT:
        return power_cut.play(scene, fault, tell, **pauses)
    if fault is Fault.CRASH_MID_REKEY:
        return mid_rekey.play(scene, fault, tell, number=number, **pauses)
    return failover.play(scene, fault, tell, **pauses)
