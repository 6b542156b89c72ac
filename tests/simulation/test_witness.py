"""A pair with a witness, under every combination of cuts: nothing is excused.  Each broken variant is found out.

| variant | what is broken | found by |
|---|---|---|
| VotesTwice | the witness gives an epoch's vote to both | alone, I2, I3, commit |
| ForgetsAtRestart | what was promised is not on disk | alone, I2, I3, commit |
| StaleLine | a takeover is not told, and the line does not look at what a claim is based on | alone, I2, I3, commit |
| GoesOnBeforeTheVote | an owner goes on when it has asked | alone, I2, I3, commit |
| TakesOverBeforeTheVote | a backup takes over when it has asked | alone, I2, I3, commit |
| RefusalIgnored | a member that was outvoted still takes its records for good | I2, I3, commit |
| ProofIsEnough | a member that has proof of death does not ask what the dead one had done | I2, I3, commit |
"""

from __future__ import annotations

import pytest

from ipsecha.cluster.ownership import Role
from ipsecha.cluster.pair import PairMember
from ipsecha.cluster.witness import Kind, Ledger, Line, Request
from simulation.violation import Violation
from witness_world import WITNESS_FAULTS, WitnessedWorld, judged

SEEDS = 240
BATCH = 40
VISIBLE = {"alone", "I2", "I3", "commit"}


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_faults_of_all_kinds(first: int) -> None:
    for seed in range(first, first + BATCH):
        judged(seed)


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_cuts_of_all_kinds(first: int) -> None:
    """Between the members, between member and witness, each way alone; nobody dies."""
    cuts = ("partition", "deaf", "cut", *WITNESS_FAULTS)
    for seed in range(first, first + BATCH):
        judged(seed, cuts)


class VotesTwice(Ledger):
    def _heed(self, member: str, request: Request) -> bool:
        return super()._heed(member, request) or request.kind == Kind.CLAIM


class StaleLine(Ledger):
    def _heed(self, member: str, request: Request) -> bool:
        if request.kind == Kind.CLAIM and request.epoch > self.line.epoch:
            self.line = Line(request.epoch, request.boot_id, member, request.lineage)
            return True
        return request.kind != Kind.TELL and super()._heed(member, request)


class Forgetful(WitnessedWorld):
    def kept(self, line: Line) -> Line:
        return Line()


class GoesOnBeforeTheVote(PairMember):
    def _claim_epoch(self, now: float) -> None:
        super()._claim_epoch(now)
        if self.role is Role.ACTIVE:
            self._go_on_alone(True, now)


class TakesOverBeforeTheVote(PairMember):
    def _claim_epoch(self, now: float) -> None:
        super()._claim_epoch(now)
        if self.role is Role.STANDBY and self.in_sync:
            self._take_over(True, now)


class RefusalIgnored(PairMember):
    """Stops for the moment, and goes on with what it has as soon as the other is dead."""

    def _refused(self, claim: Request, now: float) -> None:
        if self.owns:
            self._step_down(Role.ISOLATED, "the witness has voted for another")

    def _at_stake(self, proof: bool) -> bool:
        return not proof and super()._at_stake(proof)


class ProofIsEnough(PairMember):
    def _at_stake(self, proof: bool) -> bool:
        return not proof and super()._at_stake(proof)


MEMBERS = {
    GoesOnBeforeTheVote: ("partition", "deaf"),
    TakesOverBeforeTheVote: ("partition", "deaf"),
    RefusalIgnored: ("partition", "crash"),
    ProofIsEnough: ("partition", "deaf", "pause", "crash"),
}


def _found(faults: tuple[str, ...], **types: type) -> str:
    for seed in range(400):
        try:
            judged(seed, faults, **types)
        except Violation as violation:
            return violation.checker
    return "nobody"


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.__name__)
def test_a_broken_member_is_found_out(member: type[PairMember]) -> None:
    assert _found(MEMBERS[member], member=member) in VISIBLE


@pytest.mark.parametrize("ledger", [VotesTwice, StaleLine])
def test_a_broken_ledger_is_found_out(ledger: type[Ledger]) -> None:
    assert _found(("partition", "deaf"), ledger=ledger) in VISIBLE


def test_a_witness_that_forgets_is_found_out() -> None:
    faults = ("partition", "partition", "witness restarts", "witness cut")
    assert _found(faults, world=Forgetful) in VISIBLE


@pytest.mark.parametrize("faults", [*MEMBERS.values(), ("partition", "witness restarts", "witness cut")], ids="+".join)
def test_a_sound_pair_passes_where_broken_ones_fail(faults: tuple[str, ...]) -> None:
    for seed in range(20):
        judged(seed, faults)
